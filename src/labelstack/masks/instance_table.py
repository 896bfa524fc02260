"""The table of instances: a row for each, with its mask as runs; the rows of a photo stand together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from labelstack.masks.run_lengths import RunLengths
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

SIDES = ("height", "width", "left", "top", "right", "bottom", "area")  # in pixels; right and bottom lie beyond the box
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("category", pa.int32(), nullable=False),
        pa.field("attributes", pa.list_(pa.int32()), nullable=False),
        pa.field("runs", pa.list_(pa.int32()), nullable=False),  # start from 1 and length in turn
        *(pa.field(name, pa.int32(), nullable=False) for name in SIDES),
    ]
)
_ROW_GROUP = 2_000  # what a reader holds at most, compressed
_AT_ONCE = 1_000  # rows that are read


def write_instances(path: str | Path, table: pa.Table | None) -> None:
    """Write a table of instances, None being one without rows; equal tables give equal bytes."""
    table = SCHEMA.empty_table() if table is None else table
    with replacing(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for start in range(0, max(len(table), 1), _ROW_GROUP):
            writer.write_table(table.slice(start, _ROW_GROUP).combine_chunks(), row_group_size=_ROW_GROUP)


def read_instances(path: str | Path, image_ids: ArrayLike | None = None) -> pa.Table:
    """Instances of some photos, or of all, in the table's order; raise ``UserError`` when it is not such a table.

    Only those parts of the file are read in which they lie.
    """
    try:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow.names != SCHEMA.names:
                raise UserError(f"{path}: not a table of instances with columns {', '.join(SCHEMA.names)}")
            parts = [
                part if image_ids is None else part.filter(pa.array(np.isin(part["image_id"].to_numpy(), image_ids)))
                for group in range(file.num_row_groups)
                if image_ids is None or np.isin(file.read_row_group(group, ["image_id"])[0].to_numpy(), image_ids).any()
                for batch in file.iter_batches(_AT_ONCE, [group])
                for part in [pa.Table.from_batches([batch])]
            ]
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a table of instances ({error})") from None
    return pa.concat_tables(parts).cast(SCHEMA) if parts else SCHEMA.empty_table()


def categories_of(path: str | Path, image_ids: ArrayLike) -> NDArray[np.int64]:
    """Categories of the instances of some photos, int64 [n], ascending, each once."""
    wanted, found = np.asarray(image_ids, np.int64), set[int]()
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, ["image_id", "category"])
            there = np.isin(table["image_id"].to_numpy(), wanted)
            found.update(table["category"].to_numpy()[there].tolist())
    return np.array(sorted(found), np.int64)


def masks_of(table: pa.Table) -> RunLengths:
    """The masks of a table's rows."""
    lists = table["runs"].combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    values = lists.flatten().to_numpy().astype(np.int64)
    bounds = lists.offsets.to_numpy().astype(np.int64) // 2
    height, width = (table[name].to_numpy().astype(np.int64) for name in ("height", "width"))
    return RunLengths(values[0::2] - 1, values[1::2], bounds - bounds[0], height, width)
