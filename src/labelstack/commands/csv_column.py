"""One column of a CSV file that a user made, read strictly: a value in the wrong column is worse than none."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from labelstack.support.errors import InputProblems, UserError

_LONGEST_CELL = 200_000_000  # characters; images may be given as base64


def read_column(path: Path, names: Sequence[str]) -> list[str]:
    """The values of the first column of ``names`` that the header has, a value for each row.

    Rows are separated by commas, with quotes as RFC 4180 has them; lines without anything are left out.

    Raises
    ------
    UserError
        When the file is absent, no UTF-8 text, has none of the columns or one of them twice, or has no rows.
    InputProblems
        With every line that does not fit the header.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    rows = _rows(path, _text(path, data))
    header = [name.strip() for name in next(rows, (0, []))[1]]
    column = next((name for name in names if name in header), None)
    if column is None:
        wanted, *others = (f"`{name}`" for name in names)
        also = f" (or {', '.join(others)})" if others else ""
        found = ", ".join(header) if header else "an empty file"
        raise UserError(f"{path}: expected a column {wanted}{also} in the first line, found {found}")
    if header.count(column) > 1:
        raise UserError(f"{path}: has the column `{column}` {header.count(column)} times; leave one")
    values, problems, at = [], [], header.index(column)
    for line, row in rows:
        if len(row) == len(header):
            values.append(row[at])
        else:
            cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
            problems.append(f"line {line}: {cells}, the header has {len(header)}")
    if problems:
        raise InputProblems(f"{path} (rows that don't fit the header; quote cells with commas)", problems)
    if not values:
        raise UserError(f"{path}: no rows")
    return values


def _text(path: Path, data: bytes) -> str:
    try:
        if b"\0" not in data:
            return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    lines = enumerate(data.split(b"\n"), start=1)
    problems = [f"line {i}: expected UTF-8 text" for i, line in lines if b"\0" in line or not _utf8(line)]
    raise InputProblems(f"{path} (save it as UTF-8)", problems)


def _utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold something, with the line on which each begins."""
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}: not CSV, in the row that begins on line {line} ({error})") from None
