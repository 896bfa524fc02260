"""The file that iMaterialist 2019 asks for: `ImageId,EncodedPixels,ClassId`, masks of a squashed photo, 512 × 512.

The server refuses a file in which two masks of a photo share a pixel, or a test photo is missing.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelstack.formats.csv_file import read_csv
from labelstack.formats.instance_labels import InstanceLabels
from labelstack.formats.instance_rows import long_cells
from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems
from labelstack.formats.records import parse_id
from labelstack.masks.run_geometry import disjoint, resized
from labelstack.masks.run_lengths import RunLengths
from labelstack.masks.run_text import read_runs, write_runs
from labelstack.support.errors import InputProblems
from labelstack.support.storage import replacing

HEADER = ("ImageId", "EncodedPixels", "ClassId")
SIDE = 512
NOTHING = ("1 1", "23")  # the row of a photo in which nothing was found: one pixel, a shoe, as public kernels have it


class FoundInstances(NamedTuple):
    """What was found in one photo, what is to lie on top first.

    Attributes
    ----------
    name : ImageId
    category : of each instance
    attributes : of each instance
    masks : of each instance, all of the photo's size
    """

    name: str
    category: Sequence[int]
    attributes: Sequence[Iterable[int]]
    masks: RunLengths


class Submitted(NamedTuple):
    """What a submission says: for each row the photo's place among the test photos, and the instance."""

    photo: NDArray[np.int64]
    category: NDArray[np.int64]
    attributes: list[frozenset[int]]
    masks: RunLengths


def write_masks(path: str | Path, names: Sequence[str], photos: Iterable[FoundInstances], side: int = SIDE) -> int:
    """Write the submission, photo by photo; equal instances give equal bytes.

    Masks are brought to ``side`` × ``side``. Where two of a photo share pixels, the earlier one keeps them; a mask of
    which nothing is left has no row. A photo without any row gets ``NOTHING``. Attributes are ascending.

    Parameters
    ----------
    names : ImageId of every test photo, in the file's order
    photos : in the same order; some may be left out

    Returns
    -------
    int
        Instances written, rows of ``NOTHING`` not counted.

    Raises
    ------
    ValueError
        When a photo is none of the names, or comes after a later one. Nothing is written then.
    """
    place, next_one, written = {name: i for i, name in enumerate(names)}, 0, 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for photo in photos:
            here = place.get(photo.name, -1)
            if here < next_one:
                raise ValueError(f"{photo.name}: expected test photos in their order, each at most once")
            writer.writerows((name, *NOTHING) for name in names[next_one:here])
            rows = _rows(photo, side)
            writer.writerows(rows or [(photo.name, *NOTHING)])
            next_one, written = here + 1, written + len(rows)
        writer.writerows((name, *NOTHING) for name in names[next_one:])
    return written


def _rows(photo: FoundInstances, side: int) -> list[tuple[str, str, str]]:
    texts = write_runs(disjoint(resized(photo.masks, side, side)))
    return [
        (photo.name, text, "_".join(map(str, [category, *sorted(set(attributes))])))
        for text, category, attributes in zip(texts, photo.category, photo.attributes, strict=True)
        if text
    ]


def read_masks(path: str | Path, names: Sequence[str], labels: InstanceLabels, side: int = SIDE) -> Submitted:
    """Read a submission and check all that the server would refuse it for, and more.

    Parameters
    ----------
    names : ImageId of every test photo
    labels : categories and attributes that there are

    Raises
    ------
    InputProblems
        With every problem: header, photos that are missing or unknown, runs, pixels in two masks of a photo, classes
        that there are not, attributes that do not ascend.
    """
    path, problems = Path(path), list[str]()
    told = FileProblems(path.name)
    with long_cells():
        rows = read_csv(path, problems)
    if rows is None:
        raise InputProblems(str(path), problems or [f"{path.name}: expected this file, found none"])
    header = tuple(rows[0][1]) if rows else ()
    if header != HEADER:
        what = found(",".join(header)) if header else "an empty file"
        problems = [f"{path.name}: line 1: expected the header {','.join(HEADER)}, found {what}"]
        raise InputProblems(str(path), problems)
    place = {name: i for i, name in enumerate(names)}
    lines, photo, texts, category, attributes = list[int](), list[int](), list[str](), list[int](), list[list[int]]()
    for line, cells in rows[1:]:
        if len(cells) != len(HEADER):
            told.add("", f"line {line}", "", "three fields, as the header has", str(len(cells)))
        elif cells[0] not in place:
            told.add("", f"line {line}", HEADER[0], "a test photo", found(cells[0]))
        else:
            lines.append(line)
            photo.append(place[cells[0]])
            texts.append(cells[1])
            values = _class(cells[2], f"line {line}", labels, told)
            category.append(values[0])
            attributes.append(values[1:])
    sides = np.full(len(lines), side, np.int64)
    masks, faults, _ = read_runs(texts, sides, sides)
    for fault in faults:
        told.add("", f"line {lines[fault.mask]}", HEADER[1], fault.expected, fault.found)
    of = np.array(photo, np.int64)
    for one, other in _overlaps(masks, of):
        what = f"some of {names[of[one]]} that line {lines[other]} has too"
        told.add("", f"line {lines[one]}", HEADER[1], "pixels that no other mask of the photo has", what)
    problems += told.sentences()
    there = set(photo)
    if lacking := [name for name in names if place[name] not in there]:
        shown = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
        problems.append(f"{path.name}: expected a row for every test photo, found none for {len(lacking):,} ({shown})")
    if problems:
        raise InputProblems(str(path), problems)
    return Submitted(of, np.array(category, np.int64), [frozenset(one) for one in attributes], masks)


def _class(cell: str, place: str, labels: InstanceLabels, told: FileProblems) -> list[int]:
    """Category and attributes of a cell; category 0 where they can't be read."""
    values = [parse_id(word, 2**31 - 1) for word in cell.split("_")]
    if any(value is None for value in values):
        told.add("", place, HEADER[2], "a category and attributes such as 6 or 6_12_45", found(cell))
        return [0]
    category, *attributes = (int(value) for value in values if value is not None)
    if category not in labels.categories:
        told.add("", place, HEADER[2], f"categories that {labels.file} has", str(category))
    for attribute in attributes:
        if attribute not in labels.attributes:
            told.add("", place, HEADER[2], f"attributes that {labels.file} has", str(attribute))
    if attributes != sorted(set(attributes)):
        told.add("", place, HEADER[2], "ascending attributes, each once", found(cell))
    return [category, *attributes]


def _overlaps(masks: RunLengths, photo: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Masks that share pixels of a photo with another, each once, and that other."""
    of = masks.mask
    order = np.lexsort((masks.start, photo[of]))
    of, start = of[order], masks.start[order]
    end = start + masks.length[order]
    base = photo[of] * (int(end.max(initial=0)) + 1)
    reached = np.maximum.accumulate(base + end)  # by all runs so far; a photo's runs lie before the next one's
    clash = np.flatnonzero(reached[:-1] > (base + start)[1:]) + 1
    before = np.maximum.accumulate(np.where(base + end == reached, np.arange(len(of)), 0))
    pairs = {int(of[i]): int(of[before[i - 1]]) for i in clash[::-1].tolist()}
    return sorted((max(one, other), min(one, other)) for one, other in pairs.items())
