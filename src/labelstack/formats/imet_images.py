"""Ids of iMet's images: texts that spreadsheets take for numbers, each of which is the name of a PNG file."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems
from labelstack.formats.table_images import Files, file_url

_ID = re.compile("[1-9a-f][0-9a-f]{0,15}")
_SPREADSHEET = re.compile(r"\d([.,]\d+)?E[+-]?\d+|\d+[.,]0*")
_NUMBER = re.compile(r"\d+(e\d+)?")
_EXACT = 15  # decimal digits that a spreadsheet keeps
_SHOWN = 5
_WANTED = "an image's id, up to 16 hex digits in lower case and no leading zero"
_AGAIN = "take the file as it was downloaded, or import the column as text"


def image_url(folder: str, name: str) -> str:
    """The URL of an image below ``dataset.root``."""
    return file_url(f"{folder}/{name}.png")


class IdCheck:
    """Takes the ids of one file after another line; each may come once and needs its image.

    Parameters
    ----------
    root : ``dataset.root``
    folder : of the images below it
    file : that the ids are of, for messages
    """

    def __init__(self, root: Path, folder: str, file: str) -> None:
        self._files, self._folder, self._file = Files(root, folder), folder, file
        self._lines: dict[str, int] = {}

    def take(self, name: str, line: int, told: FileProblems) -> None:
        """Note what is wrong with an id."""
        place = f"line {line}"
        if _ID.fullmatch(name) is None:
            what = found(name) if name else "an empty cell"
            if _SPREADSHEET.fullmatch(name):
                what += f", a number as spreadsheets write it{self._may_be(self._rounded, name)}: {_AGAIN}"
            told.add("", place, "id", _WANTED, what)
        elif self._lines.setdefault(name, line) != line:
            told.add("", place, "id", "each image once", f"{name} on line {self._lines[name]} too")
        elif f"{name}.png" not in self._files.there and self._files.exists and not self._files.leaves:
            what = f"none called {self._files.prefix}{name}.png"
            if name.isdigit() and len(name) > _EXACT and (near := self._may_be(self._cut, name[:_EXACT])):
                what += f"{near}: spreadsheets lose digits after the {_EXACT}th, so {_AGAIN}"
            told.add("", place, "id", "an image file", what)

    def of_folder(self, whole: bool) -> list[str]:
        """What is wrong with the folder as a whole, after all ids were taken.

        Parameters
        ----------
        whole : all rows were understood, so that an image without one has none
        """
        if not self._files.exists or self._files.leaves:
            what = "a link that leads out of dataset.root" if self._files.leaves else "none"
            return [f"{self._folder}/: expected a folder of images <id>.png, found {what}"]
        images = (name for name in self._files.there if name.endswith(".png") and not name.startswith("."))
        extra = sorted(name for name in images if name[:-4] not in self._lines)
        if not extra or not whole:
            return []
        shown = ", ".join(extra[:_SHOWN]) + (", …" if len(extra) > _SHOWN else "")
        return [
            f"{self._folder}/: expected a row of {self._file} for every image, found none for {len(extra):,} "
            f"({shown}): move them away, or add their rows"
        ]

    @staticmethod
    def _may_be(names: dict[str, str], key: str) -> str:
        return f" ({names[key]} is there)" if key in names else ""

    @cached_property
    def _numbers(self) -> list[str]:
        stems = (name[:-4] for name in sorted(self._files.there) if name.endswith(".png"))
        return [stem for stem in stems if _NUMBER.fullmatch(stem)]

    @cached_property
    def _rounded(self) -> dict[str, str]:
        """What a spreadsheet shows of an id → the first that it may be."""
        return {f"{float(stem):.5E}": stem for stem in reversed(self._numbers)}

    @cached_property
    def _cut(self) -> dict[str, str]:
        """The digits of an id that a spreadsheet keeps → the first that it may be."""
        return {stem[:_EXACT]: stem for stem in reversed(self._numbers) if stem.isdigit()}
