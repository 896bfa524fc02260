"""Boxes that somebody has drawn, or another program has found: a CSV or parquet file with a line for each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from labelstack.formats.csv_file import read_csv
from labelstack.formats.problems import FileProblems
from labelstack.params.second_round import Units
from labelstack.support.box import Box
from labelstack.support.errors import InputProblems

_NAMES = ("id", "image")  # of the column that says which image
_SIZES = ("width", "height")
_AXES = (("left", "right", "width"), ("top", "bottom", "height"))
_SIDES = Box._fields
Record = tuple[str, dict[str, str]]  # the line as a message names it, its cells as texts


def read_boxes(path: Path, units: Units, manifests: Mapping[str, pd.DataFrame]) -> dict[str, dict[int, Box]]:
    """The boxes of a file, by split and row id.

    It has the columns ``id`` (or ``image``: what the data set calls an image), ``left``, ``top``, ``right`` and
    ``bottom``; where an id is in several splits, ``split``; others are passed over. With the units ``pixels`` the
    columns ``width`` and ``height`` say how large the image is that the box was drawn on.

    Parameters
    ----------
    units : ``share`` of width and height, or ``pixels``
    manifests : by split

    Raises
    ------
    InputProblems
        With every fault of the file: line, column, what was expected and what was found.
    """
    problems: list[str] = []
    found: dict[str, dict[int, Box]] = {split: {} for split in manifests}
    told = FileProblems(path.name)
    places = {split: _named(manifest) for split, manifest in manifests.items()}
    seen: set[tuple[str, str]] = set()
    for place, cells in _records(path, units, problems):
        column = next(name for name in _NAMES if name in cells)
        name, split = cells[column], cells.get("split", "")
        inside = [one for one in places if name in places[one] and split in ("", one)]
        if len(inside) != 1:
            expected = "an image of the data set" if not inside else "an image of one split, or a column split"
            where = f" in {' and '.join(inside)}" if inside else f" in {split}" if split else ""
            told.add("", place, column, expected, f"{name!r}{where}")
        elif (inside[0], name) in seen:
            told.add("", place, column, "each image once", f"{name!r} again")
        else:
            seen.add((inside[0], name))
            if (box := _box(cells, units, place, told)) is not None:
                found[inside[0]][places[inside[0]][name]] = box
    problems += told.sentences()
    if problems:
        raise InputProblems(str(path.parent), problems)
    return found


def _named(manifest: pd.DataFrame) -> dict[str, int]:
    """What an image is called → its row id."""
    names = manifest["name"] if "name" in manifest else manifest["image_id"].astype(str)
    return dict(zip(names.tolist(), manifest["image_id"].tolist(), strict=True))


def _records(path: Path, units: Units, problems: list[str]) -> Iterator[Record]:
    """The lines of the file; none after adding a problem with the file itself."""
    table = _parquet(path, problems) if path.suffix.lower() == ".parquet" else _csv(path, problems)
    if table is None:
        if not problems:
            problems.append(f"{path.name}: not found in {path.parent}, and params.yaml names it as boxes")
        return
    header, records = table
    named = [name for name in _NAMES if name in header]
    wanted = [*_SIDES, *(_SIZES if units == "pixels" else ())]
    lacking = [name for name in wanted if name not in header]
    twice = sorted({name for name in (*wanted, *_NAMES, "split") if header.count(name) > 1})
    if len(named) != 1 or lacking or twice:
        problems.append(
            f"{path.name}: expected the columns id (or image), {', '.join(wanted)}, each once; found "
            f"{', '.join(header) or 'nothing'}"
        )
        return
    for place, cells in records:
        if len(cells) != len(header):
            problems.append(f"{path.name}: {place}: expected {len(header)} fields, found {len(cells)}")
        else:
            yield place, dict(zip(header, (cell.strip() for cell in cells), strict=True))


def _csv(path: Path, problems: list[str]) -> tuple[list[str], Iterator[tuple[str, list[str]]]] | None:
    rows = read_csv(path, problems)
    if rows is None:
        return None
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    return header, ((f"line {line}", cells) for line, cells in rows[1:])


def _parquet(path: Path, problems: list[str]) -> tuple[list[str], Iterator[tuple[str, list[str]]]] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, ValueError) as error:
        problems.append(f"{path.name}: not readable as parquet ({str(error).splitlines()[0]})")
        return None
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return [name.strip().lower() for name in table.column_names], (
        (f"row {row}", [_text(value) for value in values]) for row, values in enumerate(rows)
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _box(cells: Mapping[str, str], units: Units, place: str, told: FileProblems) -> Box | None:
    """The box of a line in shares of the image; None after noting what is wrong."""
    sides: dict[str, float] = {}
    for low, high, size_column in _AXES:
        size: float | None = 1.0
        if units == "pixels":
            size = _number(cells, size_column, place, told)
            if size is not None and size <= 0:
                told.add("", place, size_column, "a number of pixels above 0", cells[size_column])
                size = None
        values = {name: _number(cells, name, place, told) for name in (low, high)}
        if size is None or None in values.values():
            continue
        span = f"a number from 0 to {size:g}"
        outside = [name for name, value in values.items() if value is not None and not 0 <= value <= size]
        for name in outside:
            told.add("", place, name, span, cells[name])
        if not outside:
            sides |= {name: (value or 0) / size for name, value in values.items()}
            if sides[low] >= sides[high]:
                told.add("", place, high, f"more than {low}", f"{low} {cells[low]} and {high} {cells[high]}")
                del sides[low]
    return Box(**sides) if len(sides) == len(_SIDES) else None


def _number(cells: Mapping[str, str], column: str, place: str, told: FileProblems) -> float | None:
    try:
        value = float(cells[column])
    except ValueError:
        value = float("nan")
    if isfinite(value):
        return value
    told.add("", place, column, "a number", repr(cells[column]))
    return None
