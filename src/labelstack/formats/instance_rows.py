"""Rows of instances, streamed: `ImageId,EncodedPixels,Height,Width,ClassId`, a few thousand at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelstack.formats.instance_batches import run_batch
from labelstack.formats.instance_labels import InstanceLabels
from labelstack.formats.json_file import found
from labelstack.formats.photo_sizes import photo_size
from labelstack.formats.problems import FileProblems
from labelstack.formats.records import parse_id
from labelstack.formats.table_images import Files
from labelstack.masks.run_text import read_runs

IMAGE, RUNS, HEIGHT, WIDTH, CLASS, ATTRIBUTES = (
    "ImageId",
    "EncodedPixels",
    "Height",
    "Width",
    "ClassId",
    "AttributesIds",
)
HEADER = (IMAGE, RUNS, HEIGHT, WIDTH, CLASS)
SUFFIX = ".jpg"
MAX_SIDE = 65_500  # pixels; the limit of JPEG
MAX_PIXELS = 100_000_000  # of a photo that is decoded
_AT_ONCE = 2048
_CELL = 2**27  # characters
Cells = list[str]


@dataclass
class InstanceRows:
    """Instances of photos, and the photos in the order in which they first come.

    Attributes
    ----------
    names : file of each photo in its folder
    sizes : height and width of each photo as its rows say
    photo : for each instance the place of its photo, int64 [n]
    category : int32 [n]
    attributes : of each instance, ascending
    parts : its masks, a few thousand each
    clipped : instances of which runs led out of the photo and were cut off
    short : ids of photos lack ``.jpg``, as in 2020
    """

    names: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    photo: list[int] = field(default_factory=list)
    category: list[int] = field(default_factory=list)
    attributes: list[tuple[int, ...]] = field(default_factory=list)
    parts: list[pa.RecordBatch] = field(default_factory=list)
    clipped: int = 0
    short: bool = False


def read_instance_rows(
    root: Path, file: str, photos: str, labels: InstanceLabels, problems: list[str], *, clip: bool = False
) -> InstanceRows:
    """Read and check a file of instances; problems are added, a sentence for each kind of fault.

    A file with the column AttributesIds is in the form of 2020: ClassId is a category, ids of photos lack ``.jpg``.

    Parameters
    ----------
    root, file, photos : the data set's folder, the file and the folder of its photos below it
    clip : runs that lead out of the photo are cut off and counted, not refused
    """
    rows = _RowChecks(root, file, photos, labels, clip)
    path = root / file
    try:
        with long_cells(), path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            place = _columns(header, file, problems)
            if place is None:
                return rows.read
            rows.read.short = ATTRIBUTES in place
            for lines, cells in _pieces(reader, len(header), rows.told):
                rows.take(lines, {name: [row[i] for row in cells] for name, i in place.items()})
    except FileNotFoundError:
        problems.append(f"{file}: expected this file, found none")
        return rows.read
    except UnicodeDecodeError as error:
        problems.append(f"{file}: expected UTF-8 text, found another byte near position {error.start}")
    except (csv.Error, OSError) as error:
        problems.append(f"{file}: line {reader.line_num + 1}: not readable as CSV ({error})")
    problems += rows.finished()
    return rows.read


@contextmanager
def long_cells() -> Iterator[None]:
    """A large photo's runs are longer than Python's usual limit of a cell."""
    usual = csv.field_size_limit(_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(usual)


def _columns(header: Cells, file: str, problems: list[str]) -> dict[str, int] | None:
    """Which cell of a row is which; ``None`` after adding a problem for each column that is missing or there twice."""
    lacking = [name for name in HEADER if header.count(name) != 1]
    if lacking or header.count(ATTRIBUTES) > 1:
        told = found(",".join(header)) if any(header) else "an empty line or file"
        problems.append(f"{file}: line 1: expected the columns {','.join(HEADER)}, each once, found {told}")
        return None
    return {name: header.index(name) for name in (*HEADER, ATTRIBUTES) if name in header}


def _pieces(reader: Any, width: int, told: FileProblems) -> Iterator[tuple[list[int], list[Cells]]]:
    """Lines and cells of some rows at a time; rows of another width are told and left out."""
    lines, rows = list[int](), list[Cells]()
    for row in reader:
        if len(row) != width:
            if row:
                expected = f"{width} fields, as many as the header has"
                told.add("", f"line {reader.line_num}", "", expected, str(len(row)))
            continue
        lines.append(reader.line_num)
        rows.append(row)
        if len(rows) == _AT_ONCE:
            yield lines, rows
            lines, rows = [], []
    if rows:
        yield lines, rows


class _RowChecks:
    """Takes rows piece by piece, and notes what is wrong with them."""

    def __init__(self, root: Path, file: str, photos: str, labels: InstanceLabels, clip: bool) -> None:
        self.told, self.read = FileProblems(file), InstanceRows()
        self._file, self._folder, self._labels, self._clip = file, root / photos, labels, clip
        self._files = Files(root, photos)
        self._photos: dict[str, tuple[int, int]] = {}  # name → place and first line
        self._classes: dict[str, tuple[int, tuple[int, ...]] | None] = {}
        self._seen = 0

    def take(self, lines: Sequence[int], cells: Mapping[str, Cells]) -> None:
        """Check some rows and keep them."""
        self._seen += len(lines)
        short = ATTRIBUTES in cells
        sizes = [self._size(line, *row) for line, *row in zip(lines, cells[HEIGHT], cells[WIDTH], strict=True)]
        for line, name, size in zip(lines, cells[IMAGE], sizes, strict=True):
            self.read.photo.append(self._photo(name.strip() + (SUFFIX if short else ""), line, size))
        spelled = cells[CLASS]
        if short:
            spelled = [
                "_".join([one, *more.split(",")] if more.strip() else [one])
                for one, more in zip(spelled, cells[ATTRIBUTES], strict=True)
            ]
        for line, cell in zip(lines, spelled, strict=True):
            category, attributes = self._class(cell, line, CLASS)
            self.read.category.append(category)
            self.read.attributes.append(attributes)
        known = np.array([size is not None for size in sizes])
        height, width = np.array([size or (1, 1) for size in sizes], np.int64).T
        some = np.flatnonzero(known)
        texts = [cells[RUNS][i] for i in some.tolist()]
        runs, faults, clipped = read_runs(texts, height[some], width[some], clip=self._clip)
        for fault in faults:
            self.told.add("", f"line {lines[int(some[fault.mask])]}", RUNS, fault.expected, fault.found)
        self.read.clipped += int(clipped.sum())
        if not self.told:
            self.read.parts.append(run_batch(runs))

    def finished(self) -> list[str]:
        """What is wrong with the rows, and with the photos that they are of."""
        file, files = self._file, self._files
        if not files.exists or files.leaves:
            what = "a link that leads out of dataset.root" if files.leaves else "none"
            return [*self.told.sentences(), f"{files.prefix}: expected a folder of photos, found {what}"]
        if not self._seen and not self.told:
            return [f"{file}: expected at least one row, found only the header"]
        for name, (place, line) in self._photos.items():
            if name in files.there:
                self._compare(name, line, self.read.sizes[place])
        return self.told.sentences()

    def _compare(self, name: str, line: int, size: tuple[int, int]) -> None:
        """Whether the photo has the size that its rows say."""
        true = photo_size(self._folder / name)
        if true is None:
            expected = "a photo that can be read: mend it, or take its rows out"
            self.told.add("", f"line {line}", IMAGE, expected, f"{self._files.prefix}{name}, which can't")
        elif true != size and size != (0, 0):
            expected = "Height and Width of the upright photo"
            what = f"{_sides(size)}, and {self._files.prefix}{name} is {_sides(true)}"
            self.told.add("", f"line {line}", f"{HEIGHT}, {WIDTH}", expected, what)

    def _size(self, line: int, *cells: str) -> tuple[int, int] | None:
        values = []
        for name, cell in zip((HEIGHT, WIDTH), cells, strict=True):
            value = parse_id(cell.strip(), MAX_SIDE)
            if not value:
                self.told.add("", f"line {line}", name, f"a whole number from 1 to {MAX_SIDE}", found(cell))
            else:
                values.append(value)
        if len(values) == 2 and values[0] * values[1] > MAX_PIXELS:
            expected = f"Height · Width of at most {MAX_PIXELS:,}"
            self.told.add("", f"line {line}", f"{HEIGHT}, {WIDTH}", expected, f"{values[0]} · {values[1]}")
            return None
        return (values[0], values[1]) if len(values) == 2 else None

    def _photo(self, name: str, line: int, size: tuple[int, int] | None) -> int:
        """The place of a row's photo."""
        place, first = self._photos.setdefault(name, (len(self._photos), line))
        if first == line and place == len(self.read.names):
            self.read.names.append(name)
            self.read.sizes.append(size or (0, 0))
            self._check_name(name, line)
        elif size is not None:
            other = self.read.sizes[place]
            if other == (0, 0):
                self.read.sizes[place] = size
            elif other != size:
                expected = "the same in all rows of a photo"
                what = f"{_sides(size)}, and {_sides(other)} on line {first}"
                self.told.add("", f"line {line}", f"{HEIGHT}, {WIDTH}", expected, what)
        return place

    def _check_name(self, name: str, line: int) -> None:
        if name in self._files.there or not self._files.exists or self._files.leaves:
            return
        if f"{name}{SUFFIX}" in self._files.there:
            expected = f"the file name of a photo, which ends in {SUFFIX}"
            self.told.add("", f"line {line}", IMAGE, expected, f"{found(name)} ({name}{SUFFIX} is there)")
        else:
            what = f"none called {found(self._files.prefix + name)}" if name else "an empty cell"
            self.told.add("", f"line {line}", IMAGE, "a photo", what)

    def _class(self, cell: str, line: int, key: str) -> tuple[int, tuple[int, ...]]:
        """Category and attributes of a cell such as 6_12_45."""
        text = cell.strip()
        known = self._classes.get(text)
        if known is not None:
            return known
        words = text.split("_")
        values = [parse_id(word.strip(), 2**31 - 1) for word in words]
        where = f"line {line}"
        if any(value is None for value in values):
            expected = "a category and attributes such as 6 or 6_12_45"
            self.told.add("", where, key, expected, found(cell) if text else "an empty cell")
            return 0, ()
        category, *attributes = (int(value) for value in values if value is not None)
        sound = True
        if category not in self._labels.categories:
            self.told.add("", where, key, f"categories that {self._labels.file} has", str(category))
            sound = False
        for attribute in attributes:
            if attribute not in self._labels.attributes:
                self.told.add("", where, key, f"attributes that {self._labels.file} has", str(attribute))
                sound = False
        if len(set(attributes)) != len(attributes):
            self.told.add("", where, key, "each attribute once", found(cell))
            sound = False
        read = category, tuple(sorted(attributes))
        if sound:
            self._classes[text] = read
        return read


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"
