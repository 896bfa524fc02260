"""What lies in a journal's folder, read without trust: which lines are whole, what was sent, what no line names."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

FILE, FILES, SENT = "journal.jsonl", "files", "sent"

_Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # what a database's column holds
_Texts = dict[str, str]


class _Line(BaseModel):
    model_config = ConfigDict(strict=True)


class _Header(_Line):
    kind: Literal["run"]
    server: str
    run_id: str
    name: str


class _Texted(_Line):
    kind: Literal["params", "tags"]
    values: _Texts


class _Measured(_Line):
    kind: Literal["metrics"]
    values: list[Annotated[list[Any], Field(min_length=5, max_length=5)]]
    model: str | None = None
    dataset: list[str] | None = None


class _Ended(_Line):
    kind: Literal["status"]
    status: str
    end_time: _Whole


class _Filed(_Line):
    kind: Literal["artifact", "artifacts"]
    folder: str | None
    source: str


class _Modelled(_Line):
    kind: Literal["model"]
    name: str
    model_type: str
    params: _Texts
    data: list[str]
    signature: _Texts
    source: str


class _Dataset(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    name: str
    digest: str
    source_type: str
    source: str
    schema_: str = Field(alias="schema")
    profile: str
    context: str


class _Datasets(_Line):
    kind: Literal["datasets"]
    datasets: list[_Dataset]


_HEADER = TypeAdapter[Any](_Header)
_ENTRY = TypeAdapter[Any](
    Annotated[
        _Texted | _Measured | _Ended | _Filed | _Modelled | _Datasets,
        Field(discriminator="kind"),
    ]
)
_VALUE = TypeAdapter[Any](tuple[str, float, _Whole, _Whole | None, bool])


@dataclass(frozen=True)
class Content:
    """A journal as far as it can be used.

    Attributes
    ----------
    header : dict
        Empty when the file is.
    entries : list of (dict, int)
        Each with the place where its line ends.
    good : int
        Where the last whole line ends.
    tail : bytes
        What follows there: a line that a killed process left half-written.
    sent : int
        Everything before this place was sent.
    problem : str
        Why the journal can't be used; empty when it can.
    ends : bool
        Whether the last whole line has its end, too.
    """

    header: dict[str, Any] = field(default_factory=dict)
    entries: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    good: int = 0
    tail: bytes = b""
    sent: int = 0
    problem: str = ""
    ends: bool = True

    @property
    def unsent(self) -> list[tuple[dict[str, Any], int]]:
        """Entries that were not sent yet."""
        return [(entry, end) for entry, end in self.entries if end > self.sent]


def read(folder: Path) -> Content:
    """Read a journal's folder; whatever is wrong with it is said in ``problem``, and nothing is changed.

    Raises
    ------
    OSError
        When the file can't be read.
    """
    content = (folder / FILE).read_bytes()
    if not content and not any(file.name != FILE for file in folder.iterdir()):
        return Content()  # its writer was killed before the first line
    header: dict[str, Any] = {}
    entries: list[tuple[dict[str, Any], int]] = []
    start = 0
    for number, line in enumerate(_split(content), 1):
        try:
            found = _checked(line, header=number == 1)
        except (ValueError, RecursionError) as error:
            if number > 1 and start + len(line) == len(content):
                break  # the last line: its writer was killed
            return Content(header, entries, start, problem=f"line {number} is damaged{_why(error)}")
        start += len(line)
        if number == 1:
            header = found
        else:
            entries.append((found, start))
    if not header:
        return Content(problem="it has no first line")
    sent = sent_of(folder, {end for _, end in entries})
    for number, (entry, end) in enumerate(entries, 2):
        if end > sent and "source" in entry and not _is_there(folder, entry):
            what = f"line {number} names {entry['source'][:200]!r}, which is not there"
            return Content(header, entries, start, content[start:], sent, what)
    return Content(header, entries, start, content[start:], sent, ends=content[start - 1 : start] == b"\n")


def sent_of(folder: Path, ends: set[int]) -> int:
    """Where what was sent ends; 0 when the number can't be trusted, since sending twice changes nothing."""
    try:
        first, second = map(int, (folder / SENT).read_text().split())
    except (OSError, ValueError):
        return 0
    return first if first == second and first in ends else 0


def write_sent(file: Path, end: int) -> None:
    """Write where what was sent ends, twice: a damaged number must not count entries as sent."""
    file.write_text(f"{end} {end}")


def unnamed(folder: Path, entries: list[tuple[dict[str, Any], int]]) -> list[Path]:
    """Files and folders beside a journal that none of its entries names."""
    named = {Path(entry["source"]).parts[1] for entry, _ in entries if "source" in entry}
    ours = (FILE, FILES, SENT)
    beside = [one for one in folder.iterdir() if one.name not in ours and not one.name.startswith(f".{SENT}.")]
    files = folder / FILES
    return [*beside, *(file for file in files.iterdir() if file.name not in named)] if files.is_dir() else beside


def _split(content: bytes) -> list[bytes]:
    r"""Lines that end in \n alone."""
    lines = [line + b"\n" for line in content.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _checked(line: bytes, *, header: bool) -> dict[str, Any]:
    """A line's object; a last line may lack its end. Raise ``ValueError`` when it is none of ours."""
    found = json.loads(line.decode())
    (_HEADER if header else _ENTRY).validate_python(found)
    if not header and found["kind"] == "metrics":
        for value in found["values"]:
            _VALUE.validate_python(tuple(value))
    if not header and "source" in found:
        parts = Path(found["source"]).parts
        if len(parts) != 3 or parts[0] != FILES or ".." in parts or "\0" in found["source"]:
            raise ValueError("source leads out of its folder")
    return dict(found)


def _why(error: Exception) -> str:
    """The reason in brackets, without what the line holds."""
    if isinstance(error, ValidationError):
        one = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, one["loc"]))
        return f" ({place}: {one['msg']})" if place else f" ({one['msg']})"
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return " (not JSON)"
    return f" ({error})"


def _is_there(folder: Path, entry: dict[str, Any]) -> bool:
    source = folder / entry["source"]
    try:
        inside = source.resolve().is_relative_to((folder / FILES).resolve())
        if entry["kind"] == "model":
            names = [file.name for file in source.iterdir()] if source.is_dir() else [source.name]
            return inside and source.exists() and set(entry["data"]) <= set(names)
        return inside and (source.is_dir() if entry["kind"] == "artifacts" else source.is_file())
    except (OSError, ValueError):
        return False
