"""Columns of a CSV or parquet file that people made, every cell as the text that stands there."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems

DELIMITERS = ",;\t|"
PARQUET = b"PAR1"
# How files begin that are called .csv and are none.
_OTHERS = {
    b"PK\x03\x04": "an Excel workbook or another zip file: save it as CSV (UTF-8) first, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save it as CSV (UTF-8) first",
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"\xff\xfe": "text in UTF-16: save it as CSV (UTF-8) first",
    b"\xfe\xff": "text in UTF-16: save it as CSV (UTF-8) first",
    b"\x89HDF": "an HDF5 file: save it as CSV or parquet first",
}
Cells = list[Any]  # of texts; of a parquet file's column of lists, lists of texts


@dataclass
class Columns:
    """Some columns of a file.

    Attributes
    ----------
    file : name for messages
    unit : what a message calls a record: ``line`` of a CSV file, from 1, or ``row`` of a parquet file, from 0
    place : number of each record
    cells : what was asked for -> its cells; what may be absent and is, is not there
    """

    file: str
    unit: str
    place: list[int] = field(default_factory=list)
    cells: dict[str, Cells] = field(default_factory=dict)

    def told(self, row: int) -> str:
        """How a message calls a record."""
        return f"{self.unit} {self.place[row]}"


def read_columns(
    path: Path, file: str, wanted: Mapping[str, str], optional: Mapping[str, str], problems: list[str]
) -> Columns | None:
    """Read columns by their names; ``None`` after adding problems.

    Parameters
    ----------
    file : the file as messages name it
    wanted, optional : what for -> name of the column, stripped of space in the header too
    """
    start = _start(path, file, problems)
    if start is None:
        return None
    read = _read_parquet if start == PARQUET else _read_csv
    return read(path, file, wanted, optional, problems)


def read_header(path: Path, file: str, problems: list[str]) -> list[str] | None:
    """Names of all columns of a CSV or parquet file, stripped of space; ``None`` after adding a problem."""
    start = _start(path, file, problems)
    if start is None:
        return None
    try:
        if start == PARQUET:
            import pyarrow.parquet as pq

            return list(pq.read_schema(path).names)
        with path.open(encoding="utf-8-sig", newline="") as handle:
            first = handle.readline()
            return [cell.strip() for cell in next(csv.reader([first], delimiter=sniffed(first, set())), [])]
    except UnicodeDecodeError:
        problems.append(f"{file}: {_not_utf8(path.read_bytes())}")
    except (csv.Error, OSError, ValueError) as error:  # pyarrow's are ValueErrors
        problems.append(f"{file}: its header can't be read ({str(error).splitlines()[0]})")
    return None


def _start(path: Path, file: str, problems: list[str]) -> bytes | None:
    """The first bytes of a file that may be CSV or parquet; ``None`` after adding a problem."""
    try:
        with path.open("rb") as handle:
            start = handle.read(4)
    except FileNotFoundError:
        problems.append(f"{file}: expected this file, found none{_beside(path)}")
        return None
    except OSError as error:
        problems.append(f"{file}: cannot be read ({error.strerror})")
        return None
    for magic, what in _OTHERS.items():
        if start.startswith(magic):
            problems.append(f"{file}: expected CSV or parquet, found {what}")
            return None
    return start


def sniffed(header: str, names: set[str]) -> str:
    """The delimiter of a CSV file: that by which its header holds most of the names, else most columns."""

    def fits(delimiter: str) -> tuple[int, int]:
        try:
            row = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            return 0, 0
        return len(names.intersection(cell.strip() for cell in row)), len(row)

    return max(DELIMITERS, key=fits)


def _beside(path: Path) -> str:
    """Tables that lie where a file was to be, as the rest of a sentence."""
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent.name} either)"
    there = sorted(each.name for each in path.parent.iterdir() if each.suffix.lower() in {".csv", ".parquet", ".tsv"})
    return f"; there are {', '.join(there[:5])}{', …' if len(there) > 5 else ''}" if there else ""


def _places(
    header: list[str], file: str, wanted: Mapping[str, str], optional: Mapping[str, str], problems: list[str]
) -> dict[str, int] | None:
    """What for -> number of the column; ``None`` after adding a problem for each that is not there, or there twice."""
    places, before = {}, len(problems)
    for role, name in {**wanted, **optional}.items():
        count = header.count(name)
        if count > 1:
            problems.append(f"{file}: expected the column {found(name)} once, found it {count} times")
        elif count:
            places[role] = header.index(name)
        elif role in wanted:
            there = ", ".join(found(column) for column in header[:20]) + (", …" if len(header) > 20 else "")
            key = role if "." in role else f"dataset.table.{role}"
            problems.append(f"{file}: expected a column {found(name)} ({key}), found {there or 'an empty header'}")
    return places if len(problems) == before else None


def _read_csv(
    path: Path, file: str, wanted: Mapping[str, str], optional: Mapping[str, str], problems: list[str]
) -> Columns | None:
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            first = handle.readline()
            handle.seek(0)
            delimiter = sniffed(first, {*wanted.values(), *optional.values()})
            reader = csv.reader(handle, delimiter=delimiter, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            if not any(header):
                problems.append(f"{file}: expected a header with the names of the columns, found an empty line or file")
                return None
            places = _places(header, file, wanted, optional, problems)
            if places is None:
                return None
            columns, here = Columns(file, "line"), FileProblems(file)
            columns.cells = {role: [] for role in places}
            taken = [(columns.cells[role].append, place) for role, place in places.items()]
            note, width = columns.place.append, len(header)
            for row in reader:
                line = reader.line_num
                if len(row) != width:
                    if row:
                        expected = f"{width} fields, as many as the header has"
                        here.add("", f"line {line}", "", expected, str(len(row)))
                    continue
                note(line)
                for append, place in taken:
                    append(row[place])
    except UnicodeDecodeError:
        problems.append(f"{file}: {_not_utf8(path.read_bytes())}")
        return None
    except (csv.Error, OSError) as error:
        problems.append(f"{file}: line {line + 1}: not readable as CSV ({error})")
        return None
    problems += here.sentences()
    return columns


def _not_utf8(data: bytes) -> str:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"the byte 0x{data[error.start]:02x}"
        return f"line {line}: expected UTF-8 text, found {byte}: save the file as UTF-8 (spreadsheets: CSV UTF-8)"
    return "expected UTF-8 text"


def _read_parquet(
    path: Path, file: str, wanted: Mapping[str, str], optional: Mapping[str, str], problems: list[str]
) -> Columns | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as source:
            places = _places(source.schema_arrow.names, file, wanted, optional, problems)
            if places is None:
                return None
            names = {role: source.schema_arrow.names[place] for role, place in places.items()}
            table = source.read(columns=list(dict.fromkeys(names.values())))
    except (pa.ArrowException, OSError, ValueError) as error:
        problems.append(f"{file}: not readable as parquet ({str(error).splitlines()[0]})")
        return None
    columns, before = Columns(file, "row", list(range(table.num_rows))), len(problems)
    for role, name in names.items():
        kind = table.schema.field(name).type
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if (lists and role != "labels") or not _is_text(kind.value_type if lists else kind):
            what = "texts or lists of texts" if role == "labels" else "texts"
            problems.append(f"{file}: {name}: expected {what} (or whole numbers), found the type {kind}")
            continue
        cells = table[name].to_pylist()
        columns.cells[role] = list(map(_texts, cells)) if lists else list(map(_text, cells))
    return columns if len(problems) == before else None


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_null)
    return any(test(kind) for test in tests)


def _text(value: str | int | None) -> str:
    return "" if value is None else str(value)


def _texts(values: list[str | int | None] | None) -> list[str]:
    return [] if values is None else [_text(value) for value in values]
