"""Which part of each image a model sees, on disk: a table of boxes by split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelstack.support.box import Box, Boxes
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("row_id", pa.int64(), nullable=False),
        *(pa.field(side, pa.float64(), nullable=False) for side in Box._fields),
    ]
)


def write_view(path: Path, boxes: Mapping[str, Boxes]) -> None:
    """Write the boxes of rows by split; equal content gives equal bytes, in whatever order it comes."""
    rows = [(split, row, *box) for split, of_split in sorted(boxes.items()) for row, box in sorted(of_split.items())]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(_SCHEMA)
    table = pa.table([pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)], _SCHEMA)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_view(path: Path, split: str) -> dict[int, Box]:
    """The boxes of a split's rows; raise ``UserError`` when the file is absent or something else."""
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(_SCHEMA.names).cast(_SCHEMA)
    except FileNotFoundError:
        raise UserError(f"{path}: not found. Run `dvc repro` first.") from None
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a file with columns {', '.join(_SCHEMA.names)} ({error})") from None
    columns = table.filter(pc.equal(table["split"], split)).to_pydict()
    boxes = map(Box, *(columns[side] for side in Box._fields))
    return dict(zip(columns["row_id"], boxes, strict=True))
