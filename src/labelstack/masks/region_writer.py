"""Writing the table of regions: a row for each with its mask as runs, in parts of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelstack.masks.instance_table import SIDES
from labelstack.masks.run_geometry import boxes
from labelstack.masks.run_lengths import RunLengths, areas
from labelstack.support.storage import replacing

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("region", pa.int32(), nullable=False),  # from 0 within the photo, by falling score
        pa.field("category", pa.int32(), nullable=False),  # its id as in the data set's files
        pa.field("score", pa.float32(), nullable=False),
        pa.field("runs", pa.list_(pa.int32()), nullable=False),  # start from 1 and length in turn
        *(pa.field(name, pa.int32(), nullable=False) for name in SIDES),
    ]
)
ROW_GROUP = 2_000


def region_rows(
    image_id: int, category: NDArray[np.int32], score: NDArray[np.float32], masks: RunLengths
) -> pa.RecordBatch:
    """Rows of one photo's regions, the first with the highest score.

    Parameters
    ----------
    category, score : [n]
    masks : n of them, of one size
    """
    n = len(masks)
    pairs = np.stack([masks.start + 1, masks.length], axis=1).ravel().astype(np.int32)
    offsets = pa.array((2 * masks.first).astype(np.int32))
    sides = [masks.height, masks.width, *boxes(masks).T, areas(masks)]
    columns = [
        np.full(n, image_id, np.int64),
        np.arange(n, dtype=np.int32),
        np.asarray(category, np.int32),
        np.asarray(score, np.float32),
        pa.ListArray.from_arrays(offsets, pa.array(pairs)),
        *(np.asarray(side, np.int32) for side in sides),
    ]
    return pa.RecordBatch.from_arrays([pa.array(one) for one in columns], schema=SCHEMA)


def write_regions(path: str | Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Write rows as they come, whole or not at all; the number of rows.

    Row groups have 2,000 rows each, however the rows come, so that equal rows give equal bytes.
    """
    total = 0
    with replacing(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for table in _groups(batches):
            writer.write_table(table, row_group_size=ROW_GROUP)
            total += len(table)
        if not total:
            writer.write_table(SCHEMA.empty_table())
    return total


def region_batches(paths: Iterable[str | Path]) -> Iterator[pa.RecordBatch]:
    """The rows of several files one after another, a row group at a time."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(ROW_GROUP)


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows, so many at a time; the last are fewer."""
    kept, n = list[pa.RecordBatch](), 0
    for batch in batches:
        kept.append(batch)
        n += len(batch)
        while n >= ROW_GROUP:
            table = pa.Table.from_batches(kept, SCHEMA).combine_chunks()
            yield table.slice(0, ROW_GROUP).combine_chunks()
            rest = table.slice(ROW_GROUP).combine_chunks()
            kept, n = rest.to_batches(), len(rest)
    if n:
        yield pa.Table.from_batches(kept, SCHEMA).combine_chunks()
