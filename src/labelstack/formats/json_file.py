"""JSON files of millions of records, in bounded memory: cut into records at once, decoded a few thousand at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from labelstack.formats.reading import hint
from labelstack.support.errors import InputProblems

_AT_ONCE = 10_000
_BOM = b"\xef\xbb\xbf"
_TOO_DEEP = "expected records, found JSON nested too deeply to read"


class Records(Collection[Any]):
    """The elements of a list in a JSON file, decoded when they are iterated over."""

    def __init__(self, file: str, elements: list[msgspec.Raw]) -> None:
        self._file, self._elements = file, elements

    def __len__(self) -> int:
        return len(self._elements)

    def __contains__(self, record: object) -> bool:
        return any(record == other for other in self)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _AT_ONCE):
            piece = self._elements[start : start + _AT_ONCE]
            try:
                yield from _parse(b"[" + b",".join(piece) + b"]")
            except RecursionError:
                raise InputProblems(self._file, [f"{self._file}: {_TOO_DEEP}"]) from None


def load_object(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """The JSON object in a file, its values undecoded (see ``load_list``) and each in memory of its own.

    ``None`` after adding a problem, with line and column where the JSON is malformed.
    """
    try:
        content = path.read_bytes().removeprefix(_BOM)
        if not content.isascii():
            content.decode()
        return _scanned(content)
    except FileNotFoundError:
        problems.append(f"{path.name}: expected this file, found none{hint(path)}")
    except OSError as error:
        problems.append(f"{path.name}: cannot be read ({error.strerror})")
    except UnicodeDecodeError as error:
        problems.append(f"{path.name}: expected UTF-8 text, found another byte at position {error.start}")
    except json.JSONDecodeError as error:
        problems.append(f"{path.name}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}")
    except RecursionError:
        problems.append(f"{path.name}: {_TOO_DEEP}")
    except _NoObjectError as error:
        problems.append(f"{path.name}: expected an object at the top, found {error}")
    return None


def load_list(content: Mapping[str, Any], key: str, file: str, problems: list[str]) -> Collection[Any] | None:
    """The list under a top-level key; ``None`` after adding a problem."""
    if key not in content:
        problems.append(f"{file}: {key}: expected this key at the top, found {kind(list(content)[:10], listing=True)}")
        return None
    records = records_of(content, key, file)
    if records is None:
        value = content[key]
        value = _parse(bytes(value)) if isinstance(value, msgspec.Raw) else value
        problems.append(f"{file}: {key}: expected a list of records, found {kind(value)}")
    return records


def records_of(content: Mapping[str, Any], key: str, file: str) -> Collection[Any] | None:
    """The list under a top-level key, ``None`` where there is none."""
    value = content.get(key)
    if not isinstance(value, msgspec.Raw):
        return value if isinstance(value, list) else None
    try:
        return Records(file, msgspec.json.decode(value, type=list[msgspec.Raw]))
    except msgspec.ValidationError:
        return None


def found(value: Any) -> str:
    """A value as short JSON for a message."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def kind(value: Any, *, listing: bool = False) -> str:
    """What a JSON value is, in words; a list of keys is spelled out when ``listing``."""
    if listing:
        return "keys " + ", ".join(value) if value else "no keys"
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return f"{names[type(value)]}" if type(value) in names else f"the number {found(value)}"


class _NoObjectError(Exception):
    """JSON, but no object at the top; says what is there."""


def _scanned(content: bytes) -> dict[str, Any]:
    """The top-level object: checked, and cut without decoding its values.

    Where the scanner objects, the standard library decides, decodes and explains: it also accepts NaN and escaped lone
    surrogates, and says line and column.
    """
    try:
        scanned: dict[str, msgspec.Raw] = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        value = _parse(content)
        if not isinstance(value, dict):
            raise _NoObjectError(kind(value)) from None
        return value
    return {key: value.copy() for key, value in scanned.items()}  # not views, which would keep the whole file


def _parse(content: bytes) -> Any:
    text = content.decode()
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of thousands of digits, which int() refuses
        return json.loads(text, parse_int=_integer)


def _integer(text: str) -> int | str:
    """A JSON integer; one too long for int64 stays text, which no id accepts."""
    return int(text) if len(text) <= 20 else text
