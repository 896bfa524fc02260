"""A journal on disk: entries as lines of JSON, files beside them, both there for good when ``append`` returns."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

_FILE, _FILES, _SENT = "journal.jsonl", "files", "sent"


class Busy(UserError):
    """Another process writes or uploads the journal."""


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
        return (folder / _FILE).exists()

    @classmethod
    def open(cls, folder: Path, header: dict[str, Any] | None, patience: float = 60) -> Journal:
        """Take hold of a journal and drop a line that a killed process left half-written.

        Parameters
        ----------
        header : dict or None
            The first line of a new journal; None: the journal must be there.
        patience : float
            Seconds to wait for another process.

        Raises
        ------
        FileNotFoundError
            When there is none and no ``header``.
        Busy
            When another process holds it.
        UserError
            When the folder can't be written.
        """
        with _writing(folder):
            if header is not None:
                folder.mkdir(parents=True, exist_ok=True)
            journal = cls(folder, _hold(folder / _FILE, header is not None, patience))
            try:
                journal._begin(header)
            except BaseException:
                journal.close()
                raise
        return journal

    @staticmethod
    def peek(folder: Path) -> tuple[dict[str, Any], int]:
        """Header and number of unsent entries of a journal that another process may hold."""
        lines, _ = _read(folder / _FILE)
        sent = _number(folder / _SENT)
        return (lines[0][0] if lines else {}), sum(end > sent for _, end in lines[1:])

    @property
    def run_id(self) -> str:
        """The run that the entries belong to."""
        return self.folder.name

    def append(self, entry: dict[str, Any], source: Path | None = None) -> None:
        """Keep an entry, and a copy of its file or folder; raise ``UserError`` when the disk won't take it."""
        with _writing(self.folder):
            if source is not None:
                entry = entry | {"source": self._copy(source)}
            self._write(entry)
        self.count += 1

    def entries(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Entries that were not sent yet, each with the place where it ends."""
        sent = _number(self.folder / _SENT)
        lines, _ = _read(self.folder / _FILE)
        yield from ((entry, end) for entry, end in lines[1:] if end > sent)

    def file(self, entry: dict[str, Any]) -> Path | None:
        """The copied file or folder of an artifact's entry."""
        return self.folder / entry["source"] if "source" in entry else None

    def advance(self, end: int, entries: int = 1) -> None:
        """Remember that everything before ``end`` was sent."""
        with replacing(self.folder / _SENT) as temporary:
            temporary.write_text(str(end))
        self.count -= entries

    def remove(self) -> None:
        """Delete the journal, at one stroke, and its parent folders where they are empty."""
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
        lines, good = _read(self.folder / _FILE)
        if good < os.fstat(self._handle).st_size:
            os.ftruncate(self._handle, good)
        if not lines and header is not None:
            self._write(header)
            _sync(self.folder, self.folder.parent, self.folder.parent.parent)
            lines = [(header, 0)]
        self.header = lines[0][0] if lines else {}
        sent = _number(self.folder / _SENT)
        self.count = sum(end > sent for _, end in lines[1:])

    def _write(self, entry: dict[str, Any]) -> None:
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        while line:
            line = line[os.write(self._handle, line) :]
        os.fsync(self._handle)

    def _copy(self, source: Path) -> str:
        files = self.folder / _FILES
        files.mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=files, prefix="")) / source.name
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            shutil.copyfile(source, place)
        _sync(*place.rglob("*"), place, place.parent, files, self.folder)
        return str(place.relative_to(self.folder))


def _read(file: Path) -> tuple[list[tuple[dict[str, Any], int]], int]:
    """The lines of a journal, each with the place where it ends, and where the last whole one ends."""
    content = file.read_bytes()
    lines: list[tuple[dict[str, Any], int]] = []
    start = 0
    while (end := content.find(b"\n", start) + 1) > 0:
        try:
            lines.append((json.loads(content[start:end]), end))
        except ValueError:
            if end < len(content):
                raise UserError(f"{file}: line {len(lines) + 1} is damaged; the lines before it are whole") from None
            break
        start = end
    return lines, start


def _hold(file: Path, create: bool, patience: float) -> int:
    """An open file with an exclusive lock that is still the file at this path."""
    deadline = time.monotonic() + patience
    while True:
        handle = os.open(file, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0), 0o644)
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
            if create:
                file.parent.mkdir(parents=True, exist_ok=True)
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


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0
