"""The table of regions that segmenters found: a row for each with its mask as runs, photos in the manifest's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from labelstack.support.errors import UserError

COLUMNS = ("image_id", "region", "category", "score", "runs", "height", "width")  # runs as of instances


def read_regions(path: str | Path, image_ids: ArrayLike) -> pa.Table:
    """Regions of some photos, int [n], in the table's order; raise ``UserError`` when it is not such a table.

    Only those parts of the file are read in which they lie.
    """
    wanted = np.asarray(image_ids, np.int64)
    try:
        with pq.ParquetFile(path) as file:
            if lacking := sorted(set(COLUMNS) - set(file.schema_arrow.names)):
                raise UserError(f"{path}: not a table of regions: it has no column {', '.join(lacking)}")
            schema = pa.schema([file.schema_arrow.field(name) for name in COLUMNS])
            parts = [
                part.filter(pa.array(np.isin(part["image_id"].to_numpy(), wanted)))
                for group in range(file.num_row_groups)
                if np.isin(file.read_row_group(group, ["image_id"])[0].to_numpy(), wanted).any()
                for part in [file.read_row_group(group, list(COLUMNS))]
            ]
    except FileNotFoundError:
        raise UserError(f"{path}: not found. Run `dvc repro` (or `labelstack stage regions`) first.") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a table of regions ({error})") from None
    return pa.concat_tables(parts) if parts else schema.empty_table()
