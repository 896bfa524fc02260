"""Images of a table: paths below its folder, or URLs; what is there is found out by one walk."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems
from labelstack.formats.table_file import Columns
from labelstack.params.dataset import TableSection
from labelstack.support.credentials import without_credentials

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCHEMES = ("http", "https", "s3")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
# What a name may hold without being another path's second spelling.
_ROUNDABOUT = re.compile(r"\\|//|(?:^|/)\.{1,2}(?:/|$)|/$")
_PART = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"
_PLAIN = re.compile(rf"(?:{_PART}/)*{_PART}")
_MAX_LINKS = 8  # one within another
_SAFE = re.compile(r"[A-Za-z0-9_.\-~/]*")


def is_url(text: str) -> bool:
    """Whether an image cell names a scheme."""
    return _URL.match(text) is not None


def file_url(path: str) -> str:
    """The ``file:`` URL of a path below ``dataset.root``."""
    return "file:" + (path if _SAFE.fullmatch(path) else quote(os.fsencode(path)))


class Files:
    """The files below a folder of a data set, by paths with ``/``; links are followed inside the data set only.

    Parameters
    ----------
    root : ``dataset.root``
    images : folder below it, "" for itself
    """

    def __init__(self, root: Path, images: str = "") -> None:
        self.prefix = f"{images.rstrip('/')}/" if images else ""
        self.there: set[str] = set()
        self.outside: set[str] = set()
        self._root = str(root.resolve())
        top = os.path.join(self._root, images)
        self.exists = os.path.isdir(top)
        self.leaves = not self._inside(os.path.realpath(top))
        if self.exists and not self.leaves:
            self._walk(top)

    def _inside(self, real: str) -> bool:
        return real == self._root or real.startswith(self._root.rstrip("/") + "/")

    def _walk(self, top: str) -> None:
        waiting: list[tuple[str, str, tuple[str, ...]]] = [(top, "", ())]  # folder, what names begin with, links to it
        while waiting:
            folder, before, links = waiting.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError:  # nobody may look into it: its files count as absent
                continue
            for entry in entries:
                name = before + entry.name
                if entry.is_symlink():
                    real = os.path.realpath(entry.path)
                    if not self._inside(real):
                        self.outside.add(name)
                    elif os.path.isfile(real):
                        self.there.add(name)
                    elif os.path.isdir(real) and not self._round(folder, real, links):
                        waiting.append((entry.path, f"{name}/", (*links, real)))
                elif entry.is_dir():
                    waiting.append((entry.path, f"{name}/", links))
                elif entry.is_file():
                    self.there.add(name)

    @staticmethod
    def _round(folder: str, real: str, links: tuple[str, ...]) -> bool:
        """Whether a link in a folder leads back to where it was come from."""
        return real in links or len(links) >= _MAX_LINKS or f"{os.path.realpath(folder)}/".startswith(f"{real}/")

    def leads_out(self, path: str) -> bool:
        """Whether a path that is not there goes through a link out of the data set."""
        return any(part in self.outside for part in _ancestors(path))

    def like(self, path: str) -> str:
        """What is there and may be meant by a path that is not, as the rest of a sentence."""
        folded = self._folded().get(_folded(path))
        if folded is not None:
            return f"; {found(self.prefix + folded)} is there, spelled with other letters or another Unicode form"
        by_stem = self._by("stem").get(path)
        if by_stem is not None:
            return f"; {found(self.prefix + by_stem)} is there (dataset.table.suffix: {Path(by_stem).suffix})"
        elsewhere = self._by("name").get(posixpath.basename(path))
        if elsewhere is not None:
            return f"; {found(self.prefix + elsewhere)} is there (dataset.table.images names the folder of the paths)"
        return ""

    def _folded(self) -> dict[str, str]:
        if not hasattr(self, "_by_folded"):
            self._by_folded = {_folded(path): path for path in self.there}
        return self._by_folded

    def _by(self, part: str) -> dict[str, str]:
        if not hasattr(self, "_by_parts"):
            stems = {posixpath.splitext(path)[0]: path for path in sorted(self.there)}
            self._by_parts = {"stem": stems, "name": {posixpath.basename(path): path for path in sorted(self.there)}}
        return self._by_parts[part]


def _ancestors(path: str) -> Iterator[str]:
    """The path and the folders that it lies in."""
    yield path
    while path := posixpath.dirname(path):
        yield path


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


class TableImages:
    """Takes the image cells of one file after another; each image may come once.

    Parameters
    ----------
    root : ``dataset.root``
    table : ``dataset.table``

    Attributes
    ----------
    names : of the images of all files taken, in their order
    urls : as many
    """

    def __init__(self, root: Path, table: TableSection) -> None:
        self._root, self._images, self._suffix = root, table.images or "", table.suffix
        self._files: Files | None = None
        self._row: dict[str, int] = {}  # what an image is, path or URL -> its first row
        self._parts: list[tuple[int, Columns]] = []
        self._explained = 0
        self.names: list[str] = []
        self.urls: list[str] = []

    def take(self, columns: Columns, column: str, problems: FileProblems) -> None:
        """Note names and URLs of a file's images, and problems; both lists grow by all rows, whatever they hold."""
        self._parts.append((len(self.names), columns))
        suffix, there, base = self._suffix, set[str](), ""
        for number, cell in enumerate(columns.cells["image"], start=len(self.names)):
            name, problem, path = cell.strip(), None, None
            if _PLAIN.fullmatch(name):  # what nearly all are, and nothing but a path
                path = name + suffix
            else:
                path, problem = self._path(name)
            if path is not None and problem is None and path not in there:
                there, base = self.files.there, self.files.prefix  # looked at when the first image is a path
                if path not in there:
                    problem = self._absent(path)
            if problem is not None:
                problems.add("", self._place(number, columns), column, *problem)
            first = self._row.setdefault(name if path is None else path, number)
            if first != number and name:
                place = f"{self._place(number, columns)} ({shown(name)})"
                problems.add("", place, column, "each image once", f"it {self._told(first, columns)} too")
            self.names.append(name)
            self.urls.append(name if path is None else file_url(base + path))

    def _place(self, number: int, columns: Columns) -> str:
        return columns.told(number - self._parts[-1][0])

    def _told(self, number: int, here: Columns) -> str:
        """Where a row was, of this file or one before."""
        start, columns = [part for part in self._parts if part[0] <= number][-1]
        place = f"on {columns.told(number - start)}"
        return place if columns is here else f"in {columns.file} {place}"

    @property
    def files(self) -> Files:
        """What lies below the images' folder; looked at when the first image is a path."""
        if self._files is None:
            self._files = Files(self._root, self._images)
        return self._files

    def folder_problem(self) -> str | None:
        """What is wrong with the folder of the images, if any image is a path."""
        if self._files is None or (self._files.exists and not self._files.leaves):
            return None
        what = "a link that leads out of dataset.root" if self._files.leaves else "none"
        return f"{self._images}: expected the images' folder (dataset.table.images), found {what}"

    def _path(self, name: str) -> tuple[str | None, tuple[str, str] | None]:
        """The path below the images' folder, ``None`` for a URL; expected and found where it can be neither."""
        expected = "a path below the images' folder, or an http, https or s3 URL"
        if not name:
            return None, (expected, "an empty cell")
        if _CONTROL.search(name):
            return None, (expected, f"control characters in {found(name)}")
        scheme = _URL.match(name)
        if scheme or name[:5].lower() == "file:":
            if scheme and scheme[1].lower() in _SCHEMES:
                return None, None
            return None, (expected, f"{found(shown(name))}, and this scheme is none of {', '.join(_SCHEMES)}")
        if name.startswith(("/", "\\", "~/")) or _DRIVE.match(name):
            return None, ("a path below the images' folder, not an absolute one", found(name))
        path = name + self._suffix
        if _ROUNDABOUT.search(path):
            path = posixpath.normpath(path.replace("\\", "/"))
            if path == ".." or path.startswith("../"):
                return None, ("a path that stays below the images' folder", found(name))
        return path, None

    def _absent(self, path: str) -> tuple[str, str] | None:
        files = self.files
        if not files.exists or files.leaves:  # told once, by folder_problem
            return None
        if files.leads_out(path):
            return "a file in the data set", f"{found(files.prefix + path)}, a link that leads out of dataset.root"
        self._explained += 1
        hint = files.like(path) if self._explained <= 3 else ""
        return "a file that is there", f"none called {found(files.prefix + path)}{hint}"


def shown(name: str) -> str:
    """An image's name as messages show it: without what may be secret in a URL."""
    return without_credentials(name)
