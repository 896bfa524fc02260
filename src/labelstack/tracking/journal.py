"""A journal on disk: entries as lines of JSON, files beside them, both there for good when ``append`` returns."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labelstack.support.errors import UserError
from labelstack.support.storage import replacing
from labelstack.tracking.journal_lines import FILE, FILES, SENT, Content, read, unnamed, write_sent

DAMAGED = "damaged"
_logger = logging.getLogger(__name__)


class Busy(UserError):
    """Another process writes or uploads the journal."""


class Damaged(UserError):
    """The journal can't be used; it was moved, as it is, to where the message says."""


class Journal:
    """Entries of one run in the order in which they came; one process at a time holds it.

    Attributes
    ----------
    folder : Path
    header : dict
        The first line: ``server`` (without credentials), ``run_id``, ``name``.
    count : int
        Entries that were not sent yet.
    """

    def __init__(self, folder: Path, handle: int) -> None:
        self.folder, self._handle = folder, handle
        self.header: dict[str, Any] = {}
        self.count = 0

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a run left a journal."""
        return os.path.lexists(folder / FILE)

    @classmethod
    def open(cls, folder: Path, header: dict[str, Any] | None, patience: float = 60) -> Journal:
        """Take hold of a journal; a last line that a killed process left half-written is set aside.

        Parameters
        ----------
        header : dict or None
            The first line of a new journal, which also takes the place of a damaged one; None: the journal must be
            there.
        patience : float
            Seconds to wait for another process.

        Raises
        ------
        FileNotFoundError
            When there is none and no ``header``.
        Damaged
            When it can't be used and there is no ``header``.
        Busy
            When another process holds it.
        UserError
            When the folder can't be written.
        """
        with _writing(folder):
            while True:
                try:
                    return cls._open(folder, header, patience)
                except Damaged as error:
                    if header is None:
                        raise
                    _logger.warning("%s", error)

    @classmethod
    def _open(cls, folder: Path, header: dict[str, Any] | None, patience: float) -> Journal:
        file = folder / FILE
        if os.path.lexists(file) and not file.is_file():
            raise _set_aside(folder, f"{FILE} is not a file")
        if not os.path.lexists(file) and any(folder.glob("*")):
            raise _set_aside(folder, f"{FILE} is not there")
        journal = cls(folder, _hold(file, header is not None, patience))
        try:
            journal._begin(header)
        except BaseException:
            journal.close()
            raise
        return journal

    @staticmethod
    def peek(folder: Path) -> tuple[dict[str, Any], int]:
        """Header and number of unsent entries of a journal that another process may hold, remove or have damaged."""
        try:
            content = read(folder)
        except OSError:
            return {}, 0
        return content.header, len(content.unsent)

    @property
    def run_id(self) -> str:
        """The run that the entries belong to."""
        return self.folder.name

    def append(self, entry: dict[str, Any], source: Path | None = None) -> None:
        """Keep an entry, and a copy of its file or folder; raise ``UserError`` when the disk won't take it."""
        with _writing(self.folder):
            if source is not None:
                entry = entry | {"source": self._copy(source)}
            self._write(_line(entry))
        self.count += 1

    def entries(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Entries that were not sent yet, each with the place where it ends."""
        yield from read(self.folder).unsent

    def file(self, entry: dict[str, Any]) -> Path | None:
        """The copied file or folder of an artifact's entry."""
        return self.folder / entry["source"] if "source" in entry else None

    def advance(self, end: int, entries: int = 1) -> None:
        """Remember that everything before ``end`` was sent."""
        with replacing(self.folder / SENT) as temporary:
            write_sent(temporary, end)
        self.count -= entries

    def remove(self) -> None:
        """Delete the journal, at one stroke, and its parent folders where they are empty.

        Files that no entry names, such as the copy that a killed process had not ended, are set aside.
        """
        if strangers := unnamed(self.folder, read(self.folder).entries):
            place = _place(self.folder, "-files")
            place.mkdir()
            for file in strangers:
                file.replace(place / file.name)
            _logger.warning("%s: files that none of its entries names are kept in %s", self.folder, place)
        gone = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=".gone-"))
        self.folder.replace(gone)
        for leftover in self.folder.parent.glob(".gone-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        self.close()
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()
            self.folder.parent.parent.rmdir()

    def close(self) -> None:
        """Let other processes have it."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _begin(self, header: dict[str, Any] | None) -> None:
        content = read(self.folder)
        if content.problem:
            raise _set_aside(self.folder, content.problem)
        if content.tail:
            self._cut(content)
            content = read(self.folder)
        if content.good and not content.ends:
            self._write(b"\n")
            content = read(self.folder)
        self.header = content.header
        if not content.header and header is not None:
            self._write(_line(header))
            _sync(self.folder, self.folder.parent, self.folder.parent.parent)
            self.header = header
        self.count = len(content.unsent)

    def _cut(self, content: Content) -> None:
        """Keep what is left of a last line elsewhere, so that the next entry follows a whole one."""
        place = _place(self.folder, "-last-line")
        place.write_bytes(content.tail)
        os.ftruncate(self._handle, content.good)
        _logger.warning(
            "%s: its last line was cut off; the %d bytes of it are kept in %s, all before is whole",
            *(self.folder, len(content.tail), place),
        )

    def _write(self, line: bytes) -> None:
        before = os.fstat(self._handle).st_size
        try:
            while line:
                line = line[os.write(self._handle, line) :]
            os.fsync(self._handle)
        except OSError:  # a full disk may have taken a part
            os.ftruncate(self._handle, before)
            raise

    def _copy(self, source: Path) -> str:
        files = self.folder / FILES
        files.mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=files, prefix="")) / source.name
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            shutil.copyfile(source, place)
        _sync(*place.rglob("*"), place, place.parent, files, self.folder)
        return str(place.relative_to(self.folder))


def _line(entry: dict[str, Any]) -> bytes:
    return (json.dumps(entry, ensure_ascii=False) + "\n").encode()


def _place(folder: Path, suffix: str = "") -> Path:
    """A name that is free, below ``damaged`` beside the stores' folders."""
    base = folder.parent.parent / DAMAGED / folder.parent.name
    base.mkdir(parents=True, exist_ok=True)
    number = 1
    while os.path.lexists(place := base / f"{folder.name}{suffix}{f'-{number}' if number > 1 else ''}"):
        number += 1
    return place


def _set_aside(folder: Path, problem: str) -> Damaged:
    """Move a journal that can't be used out of the way, with all that lies in it; the error that says so."""
    place = _place(folder)
    folder.replace(place)
    return Damaged(
        f"{folder}: {problem}; nothing of it was uploaded, and it is now {place}. Delete it, or mend it, move it back "
        "and run `labelstack sync`"
    )


def _hold(file: Path, create: bool, patience: float) -> int:
    """An open file with an exclusive lock that is still the file at this path."""
    deadline = time.monotonic() + patience
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0), 0o644)
        except FileNotFoundError:  # another process has just uploaded what was last in there
            if not create:
                raise
            file.parent.mkdir(parents=True, exist_ok=True)
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() >= deadline:
                raise Busy(f"{file}: another process is writing or uploading it; try again later") from None
            time.sleep(0.1)
            continue
        except OSError:  # a file system without locks: go on without
            return handle
        try:
            if os.stat(file).st_ino == os.fstat(handle).st_ino:
                return handle
        except FileNotFoundError:  # uploaded and removed while we waited
            pass
        os.close(handle)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{folder}: what is to be logged can't be kept there ({error.strerror})") from error


def _sync(*paths: Path) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
