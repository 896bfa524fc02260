"""The table of class maps that segmenters gave: a row for each photo, its map as bytes, written as they come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("classes", pa.binary(), nullable=False),  # uint8, row after row
    ]
)
AT_ONCE = 16  # photos of a row group
_CATEGORIES = b"categories"

Ids = NDArray[np.int64]
Maps = NDArray[np.uint8]


class ClassMapWriter:
    """Writes maps as they come, the file whole or not at all; equal maps give equal bytes.

    Parameters
    ----------
    path : the file
    categories : int64 [classes − 1], the category of each class; background is the class after the last
    """

    def __init__(self, path: Path, categories: Ids) -> None:
        self._replacing = replacing(path)
        self._schema = SCHEMA.with_metadata({_CATEGORIES: json.dumps(categories.tolist())})
        self._rows: list[tuple[int, Maps]] = []

    def __enter__(self) -> ClassMapWriter:
        temporary = self._replacing.__enter__()
        self._writer = pq.ParquetWriter(temporary, self._schema, compression="zstd", use_dictionary=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write()
            self._writer.close()
        finally:
            self._replacing.__exit__(kind, error, trace)

    def add(self, image_id: int, class_map: NDArray[np.integer]) -> None:
        """One photo more, int [h, w]; classes are 0 … 254."""
        self._rows.append((image_id, np.ascontiguousarray(class_map, np.uint8)))
        if len(self._rows) == AT_ONCE:
            self._write()

    def _write(self) -> None:
        ids, maps = [one for one, _ in self._rows], [one for _, one in self._rows]
        columns = [ids, [one.shape[0] for one in maps], [one.shape[1] for one in maps], [one.tobytes() for one in maps]]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []


def join_class_maps(path: Path, parts: Iterable[Path], categories: Ids) -> None:
    """Write the rows of several files, one after another, as one."""
    with ClassMapWriter(path, categories) as writer:
        for part in parts:
            for image_id, class_map in _rows_of(part):
                writer.add(image_id, class_map)


def map_categories(path: Path) -> Ids:
    """The category of each class, int64 [classes − 1]; raise ``UserError`` when it is not such a table."""
    with _opened(path) as file:
        return np.array(json.loads(file.schema_arrow.metadata[_CATEGORIES]), np.int64)


def class_map_groups(path: Path) -> Iterator[list[tuple[int, Maps]]]:
    """Photos with their maps, uint8 [h, w], at most ``AT_ONCE`` at a time, in the table's order."""
    with _opened(path) as file:
        for batch in (file.read_row_group(group) for group in range(file.num_row_groups)):
            yield [
                (row["image_id"], np.frombuffer(row["classes"], np.uint8).reshape(row["height"], row["width"]))
                for row in batch.to_pylist()
            ]


def _rows_of(path: Path) -> Iterator[tuple[int, Maps]]:
    for group in class_map_groups(path):
        yield from group


def _opened(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found. Run `dvc repro` (or `labelstack stage regions`) first.") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a table of class maps ({error})") from None
    if file.schema_arrow.names != SCHEMA.names or _CATEGORIES not in (file.schema_arrow.metadata or {}):
        file.close()
        raise UserError(f"{path}: not a table of class maps with columns {', '.join(SCHEMA.names)}")
    return file
