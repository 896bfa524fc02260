"""Columns of instances, a few thousand at a time, and the table that they become."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelstack.masks.instance_table import SCHEMA, SIDES
from labelstack.masks.run_geometry import boxes
from labelstack.masks.run_lengths import RunLengths, areas


def run_batch(runs: RunLengths) -> pa.RecordBatch:
    """Runs, starts from 1, with area and box of each mask."""
    left, top, right, bottom = boxes(runs).T
    pairs: NDArray[np.int32] = np.stack([runs.start + 1, runs.length], axis=1).astype(np.int32).ravel()
    columns = {
        "runs": pa.ListArray.from_arrays(pa.array((2 * runs.first).astype(np.int32)), pa.array(pairs)),
        **{
            name: pa.array(values.astype(np.int32))
            for name, values in {
                "height": runs.height,
                "width": runs.width,
                "left": left,
                "top": top,
                "right": right,
                "bottom": bottom,
                "area": areas(runs),
            }.items()
        },
    }
    return pa.RecordBatch.from_pydict(columns)


def instance_table(
    photo: Sequence[int],
    category: Sequence[int],
    attributes: Sequence[tuple[int, ...]],
    parts: Sequence[pa.RecordBatch],
    image_id: NDArray[np.int64],
) -> pa.Table:
    """The instances of all photos, those of a photo together and in the file's order.

    Parameters
    ----------
    photo : of each instance, a place in ``image_id``
    category, attributes : of each instance
    parts : of ``run_batch``, all instances
    image_id : int64 [n_photos]
    """
    places = np.array(photo, np.int64)
    drawn = pa.Table.from_batches(parts) if parts else SCHEMA.empty_table().select(["runs", *SIDES])
    columns = {
        "image_id": pa.array(image_id[places]),
        "category": pa.array(category, pa.int32()),
        "attributes": pa.array(attributes, pa.list_(pa.int32())),
        **{name: drawn[name] for name in ("runs", *SIDES)},
    }
    table = pa.table(columns).cast(SCHEMA)
    if (np.diff(places) < 0).any():
        table = table.take(pa.array(np.argsort(places, kind="stable")))
    return table
