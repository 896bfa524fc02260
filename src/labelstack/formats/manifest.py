"""The manifest: a parquet file with one row per image, in the competition's order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from labelstack.formats.collector import collector_paused
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("url", pa.list_(pa.string()), nullable=False),
        pa.field("label_id", pa.list_(pa.int32())),
    ]
)
# Columns that some formats have: what images are called where ids stand for texts, the label group that a row knows,
# labels that may be true besides (None where nobody says).
FURTHER = (
    pa.field("name", pa.string(), nullable=False),
    pa.field("known", pa.string(), nullable=False),
    pa.field("maybe", pa.list_(pa.int32())),
)


@collector_paused()
def write_manifest(path: str | Path, manifest: pd.DataFrame) -> None:
    """Write a manifest; equal content gives equal bytes.

    Parameters
    ----------
    manifest : DataFrame with image_id (int), url (list of str), label_id (list of int, or None where unknown) and,
        where a format has them, name and known (str) and maybe (as label_id)
    """
    schema = _schema(manifest.columns)
    columns = [pa.array(manifest[field.name].tolist(), type=field.type) for field in schema]
    with replacing(path) as temporary:
        table = pa.Table.from_arrays(columns, schema=schema)
        pq.write_table(table, temporary, compression="zstd", row_group_size=100_000)


@collector_paused()
def read_manifest(path: str | Path) -> pd.DataFrame:
    """Read a manifest: image_id int64, url lists of str, label_id lists of int or None, and further columns it has.

    These are name and known (str) and maybe (as label_id).

    Raises
    ------
    UserError
        When the file is absent or not a manifest.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema = _schema(file.schema_arrow.names)
            table = file.read().select(schema.names).cast(schema)
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a manifest with columns {', '.join(SCHEMA.names)} ({error})") from None
    columns = {"image_id": table["image_id"].to_numpy()}
    for name in schema.names[1:]:
        lists = pa.types.is_list(schema.field(name).type)
        values = _lists(table[name]) if lists else table[name].to_pylist()
        columns[name] = pd.Series(values, dtype=object if lists else "str")
    return pd.DataFrame(columns)


def _schema(names: Iterable[str]) -> pa.Schema:
    """The schema of a manifest with these columns."""
    there = set(names)
    return pa.schema([*SCHEMA, *(field for field in FURTHER if field.name in there)])


def label_matrix(label_ids: Sequence[Any], columns: ArrayLike) -> NDArray[np.uint8]:
    """Multi-hot labels.

    Parameters
    ----------
    label_ids : n sequences of int
    columns : int [n_labels], ascending

    Returns
    -------
    uint8 [n, n_labels]

    Raises
    ------
    ValueError
        When a label is not among ``columns`` or a row is None.
    """
    ids = np.asarray(columns, dtype=np.int64)
    if ids.ndim != 1 or (np.diff(ids) <= 0).any():
        raise ValueError("columns must be one ascending row of label ids, each once")
    if any(row is None for row in label_ids):
        raise ValueError("a row without labels (None) cannot become a row of the matrix")
    lengths = np.fromiter(map(len, label_ids), dtype=np.int64, count=len(label_ids))
    flat = np.fromiter(chain.from_iterable(label_ids), dtype=np.int64, count=int(lengths.sum()))
    place = np.searchsorted(ids, flat)
    known = (
        (place < len(ids)) & (ids[np.minimum(place, len(ids) - 1)] == flat) if len(ids) else np.zeros(len(flat), bool)
    )
    if not known.all():
        raise ValueError(f"label(s) {sorted(set(flat[~known].tolist()))[:10]} are not among the columns")
    matrix = np.zeros((len(label_ids), len(ids)), dtype=np.uint8)
    matrix[np.repeat(np.arange(len(label_ids)), lengths), place] = 1
    return matrix


def _lists(column: pa.ChunkedArray) -> list[list[Any] | None]:
    """Python lists of a list column; slicing one flat list is much faster than ``to_pylist``."""
    rows: list[list[Any] | None] = []
    for chunk in column.chunks:
        values = chunk.values.to_pylist()
        offsets = chunk.offsets.to_pylist()
        present = chunk.is_valid().to_pylist()
        rows += [values[a:b] if ok else None for a, b, ok in zip(offsets, offsets[1:], present, strict=False)]
    return rows
