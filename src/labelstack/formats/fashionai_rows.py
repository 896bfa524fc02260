"""Lines of label.csv and question.csv of FashionAI 2018: what each says of an image, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from labelstack.formats.csv_file import read_csv
from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems
from labelstack.formats.table_images import Files
from labelstack.support.fashionai_values import FIRST, VALUES

_ABOVE = ("Annotations", "Tests")
# A submission has paths and keys with commas between, as the files do.
_UNFIT = re.compile('[\x00-\x1f\x7f,"]')
_ROUNDABOUT = re.compile(r"//|^/|(?:^|/)\.{1,2}(?:/|$)|/$|^[A-Za-z]:|://")
_LETTERS, _PATH, _KEY = "letters", "path", "key"


class Line(NamedTuple):
    """What a line says.

    Attributes
    ----------
    file : that it stands in, below ``dataset.root``
    path : of the image, as it stands there
    key : of the attribute
    true : label id of the value that is true; None: a question
    maybe : label ids of the values that may be
    """

    file: str
    path: str
    key: str
    true: int | None = None
    maybe: tuple[int, ...] = ()


def images_of(file: str) -> str:
    """The folder below ``dataset.root`` that paths in a file start from, with ``/`` behind it; "" for root itself."""
    folder = PurePosixPath(file).parent
    text = (folder.parent if folder.name in _ABOVE else folder).as_posix()
    return "" if text == "." else f"{text}/"


def values_lines(
    root: Path, files: Sequence[str], problems: list[str], *, images: bool = True
) -> tuple[list[Line], int]:
    """The first line of each path in files like label.csv, in their order, and how many came after a first one.

    Parameters
    ----------
    images : whether each image must be there
    """
    first: dict[str, tuple[str, str, int]] = {}  # path -> key, file and line that it first stands in
    taken, repeated = list[Line](), 0
    for file in files:
        told = FileProblems(file)
        check = _ImageCheck(root, file) if images else None
        for number, cells in _cells(root, file, problems):
            place = f"line {number}"
            if len(cells) not in (3, 4):
                told.add("", place, "", "three fields, path, key and letters", str(len(cells)))
                continue
            path, key, letters = cells[:3]
            if len(cells) == 4 and cells[3] not in ("", "0"):
                told.add("", place, "", "0 in a fourth field", found(cells[3]))
            if not _fits(path, key, place, told):
                continue
            there = first.setdefault(path, (key, file, number))
            if there[0] != key:
                where = f"line {there[2]}" if there[1] == file else f"{there[1]}, line {there[2]}"
                told.add(
                    "", place, _KEY, "one attribute for each path", f"{found(path)} under {there[0]} on {where} too"
                )
                continue
            if there != (key, file, number):
                repeated += 1
                continue
            values = _values(key, letters)
            if isinstance(values, str):
                told.add("", place, _LETTERS, *values.split("\n"))
                continue
            if check is not None:
                check.take(path, place, told)
            taken.append(Line(file, path, key, *values))
        problems += told.sentences()
    return taken, repeated


def question_lines(root: Path, file: str, learnt: Collection[str], problems: list[str]) -> list[Line]:
    """The lines of a file like question.csv, in its order; each path may come once.

    Parameters
    ----------
    learnt : keys that labels are there of; others cannot be answered; none: not known
    """
    told, check = FileProblems(file), _ImageCheck(root, file)
    first, taken = dict[str, int](), list[Line]()
    for number, cells in _cells(root, file, problems):
        place = f"line {number}"
        if len(cells) != 3:
            told.add("", place, "", "three fields, path, key and one that is not read", str(len(cells)))
            continue
        path, key = cells[:2]
        if not _fits(path, key, place, told):
            continue
        if first.setdefault(path, number) != number:
            told.add("", place, _PATH, "each image once", f"{found(path)} on line {first[path]} too")
            continue
        if learnt and key not in learnt:
            told.add("", place, _KEY, "an attribute that dataset.fashionai.labels have images of", found(key))
        check.take(path, place, told)
        taken.append(Line(file, path, key))
    problems += told.sentences()
    return taken


def _cells(root: Path, file: str, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line of a file, which has no header; nothing after adding a problem."""
    told = list[str]()
    rows = read_csv(root / file, told)
    name = PurePosixPath(file).name
    problems += [f"{file}{sentence.removeprefix(name)}" for sentence in told]
    if rows is None:
        problems += [] if told else [f"{file}: expected this file, found none"]
        return
    if not rows:
        problems.append(f"{file}: expected at least one line, found an empty file")
    yield from ((number, [cell.strip() for cell in cells]) for number, cells in rows)


def _fits(path: str, key: str, place: str, told: FileProblems) -> bool:
    """Whether path and key can be such; notes what is wrong."""
    problem = None
    if not path:
        problem = "a path", "an empty field"
    elif "\\" in path:
        problem = "/ between the folders of a path", f"{found(path)}: write it as in the published files"
    elif _UNFIT.search(path):
        problem = "a path without commas, quotation marks and control characters", found(path)
    elif _ROUNDABOUT.search(path):
        problem = "a path below the folder of the images, such as Images/skirt_length_labels/1.jpg", found(path)
    if problem is not None:
        told.add("", place, _PATH, *problem)
    if key not in VALUES:
        told.add("", place, _KEY, f"one of {', '.join(VALUES)}", found(key) if key else "an empty field")
    return problem is None and key in VALUES


@lru_cache(maxsize=65_536)
def _values(key: str, letters: str) -> tuple[int, tuple[int, ...]] | str:
    """Label ids of the true value and of those that may be; or what was expected and found, a line each."""
    wanted = len(VALUES[key])
    if strange := set(letters) - set("nym"):
        return f"none but n, y and m\n{found(''.join(sorted(strange)))} in {found(letters)}"
    if len(letters) != wanted:
        return f"{wanted} letters for {key}, one for each value\n{len(letters)}: {found(letters)}"
    if letters.count("y") != 1:
        return f"exactly one y\n{letters.count('y') or 'none'} in {found(letters)}"
    first = FIRST[key]
    return first + letters.index("y"), tuple(first + place for place, letter in enumerate(letters) if letter == "m")


class _ImageCheck:
    """Takes the paths of a file one after another; each needs its image."""

    def __init__(self, root: Path, file: str) -> None:
        self._files = Files(root, images_of(file).rstrip("/"))

    def take(self, path: str, place: str, told: FileProblems) -> None:
        """Note an image that is not there."""
        if path not in self._files.there:
            out = ", a link that leads out of dataset.root" if self._files.leads_out(path) else ""
            told.add("", place, _PATH, "an image file", f"none called {self._files.prefix}{path}{out}")
