"""`labelstack recover`: put right what a killed `dvc` left half-written.

DVC writes ``.dvc/tmp/rwlock`` and ``dvc.lock`` in place. A kill within that millisecond leaves a file that no `dvc`
reads any more.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labelstack.support import storage
from labelstack.support.errors import UserError
from labelstack.support.yaml_file import parse_yaml

DVC = Path(".dvc")
LOCK_FILE = Path("dvc.lock")
RWLOCK = DVC / "tmp/rwlock"
DAMAGED = DVC / "tmp/dvc.lock.damaged"
_HEAD = "schema: '2.0'\nstages:\n"
_STAGE = re.compile(r"^  (?=\S)", re.MULTILINE)  # where an entry of dvc.lock begins
_TOP = re.compile(r"^(?=[^\s#])", re.MULTILINE)
_CONFLICT = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)


def run() -> None:
    """Mend dvc.lock and drop an unreadable rwlock, in this folder; a file that can be read is left as it is.

    Raises
    ------
    UserError
        When this is no workspace of DVC, or another `dvc` runs meanwhile.
    """
    if not DVC.is_dir():
        raise UserError(f"recover: no {DVC}/ here: run it in the folder of dvc.yaml")
    said = [*_mended(RWLOCK, "rwlock.lock", _rwlock_reads, _drop), *_mended(LOCK_FILE, "lock", lock_reads, _rewrite)]
    for sentence in said:
        print(f"recover: {sentence}")
    if not said:
        print("recover: nothing to put right")


def _mended(file: Path, guard: str, reads: Callable[[str], bool], mend: Callable[[Path, str], str]) -> Iterator[str]:
    """Mend a file behind DVC's own lock for it, if it does not read there either."""
    if (text := _text(file)) is None or reads(text):
        return
    with _held(guard):
        if (text := _text(file)) is not None and not reads(text):
            yield mend(file, text)


@contextmanager
def _held(name: str) -> Iterator[None]:
    from dvc.config import Config, ConfigError
    from dvc.lock import LockError, make_lock

    RWLOCK.parent.mkdir(exist_ok=True)  # absent in a fresh clone
    try:
        hardlink = bool(Config(str(DVC)).get("core", {}).get("hardlink_lock", False))
    except ConfigError as error:
        raise UserError(f"recover: DVC's configuration cannot be read ({error}): mend it, then try again") from None
    try:
        lock = make_lock(str(DVC / "tmp" / name), tmp_dir=str(DVC / "tmp"), hardlink_lock=hardlink)
        lock.lock()
    except LockError:
        raise UserError("recover: another `dvc` is at work here: wait for its end, or end it, then try again") from None
    try:
        yield
    finally:
        lock.unlock()


def _text(file: Path) -> str | None:
    try:
        return file.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def _rwlock_reads(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _drop(file: Path, _: str) -> str:
    file.unlink()
    return f"{file} could not be read and is gone: DVC makes a new one"


def lock_reads(text: str) -> bool:
    """Whether the text of a dvc.lock can be read, and has the form of one."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        return bool(COMPILED_LOCKFILE_SCHEMA(parse_yaml(text, str(LOCK_FILE))))
    except (Invalid, UserError):
        return False


def _is_entry(value: object) -> bool:
    from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA
    from voluptuous import Invalid

    try:
        return bool(COMPILED_LOCK_FILE_STAGE_SCHEMA(value))
    except Invalid:
        return False


def sound_entries(text: str) -> dict[str, str]:
    """Text of each stage's entry that is whole, by its name; the last one of a text that was cut off is not.

    Parameters
    ----------
    text : of a dvc.lock, or the beginning of one
    """
    _, _, body = text.partition("\nstages:\n")
    found = {}
    for part in _STAGE.split(_TOP.split(body)[0])[1:]:
        try:
            entry = parse_yaml(f"  {part}", str(LOCK_FILE))
        except UserError:
            continue
        if isinstance(entry, dict) and len(entry) == 1 and all(map(_is_entry, entry.values())):
            found[str(*entry)] = f"  {part}" if part.endswith("\n") else f"  {part}\n"
    return found


def _rewrite(file: Path, text: str) -> str:
    """Keep the whole entries, and take those that are lost from the last commit; the damaged file is kept."""
    if _CONFLICT.search(text):
        raise UserError(f"recover: {file} holds a merge conflict, no half-written entry: resolve it, then try again")
    kept = sound_entries(text)
    if kept:
        kept.popitem()  # perhaps it goes on
    lost = {name: entry for name, entry in sound_entries(_committed(file)).items() if name not in kept}
    DAMAGED.write_text(text, "utf-8")
    if entries := "".join((kept | lost).values()):
        with storage.replacing(file) as temporary:
            temporary.write_text(_HEAD + entries, "utf-8")
    else:
        file.unlink()
    return (
        f"{file} could not be read: {len(kept)} of its entries are kept, {len(lost)} are those of the last commit; "
        f"`dvc repro` compares all of them with the files. What was there lies in {DAMAGED}"
    )


def _committed(file: Path) -> str:
    command = ["git", "show", f"HEAD:./{file}"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:  # no git here
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
