"""Regions as segmenters might find them: true instances of photos moved by a pixel, some missing, some false."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labelstack.formats.instance_batches import run_batch
from labelstack.formats.manifest import read_manifest
from labelstack.masks.class_map_table import ClassMapWriter
from labelstack.masks.instance_table import categories_of, masks_of, read_instances
from labelstack.masks.run_geometry import resized
from labelstack.masks.run_lengths import decode, encode, paint

MISSED, FALSE = 7, 5  # every so many instances


def write_found(root: Path, side: int = 64, k: int = 3) -> None:
    """Write data/regions, data/class_maps and data/photo_folds.parquet for the photos of a workspace."""
    photos = root / "data/photos/manifest"
    for split in ("train", "validation", "test"):
        ids = read_manifest(photos / f"{split}.parquet")["image_id"].to_numpy(np.int64)
        true = read_instances(photos / ("test_instances.parquet" if split == "test" else "instances.parquet"), ids)
        parts = [found_of(true.filter(pa.array(true["image_id"].to_numpy() == one)), side) for one in ids.tolist()]
        path = root / f"data/regions/{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables(parts), path, row_group_size=50)
        if split == "test":
            write_maps(root, ids, pa.concat_tables(parts), side)
    train = read_manifest(photos / "train.parquet")["image_id"].to_numpy(np.int64)
    pd.DataFrame({"image_id": train, "fold": np.arange(len(train)) % k, "source": ""}).to_parquet(
        root / "data/photo_folds.parquet"
    )


def write_maps(root: Path, ids: np.ndarray, found: pa.Table, side: int) -> None:
    """Write data/class_maps: the regions of test photos, painted one over another."""
    photos = root / "data/photos/manifest"
    train = read_manifest(photos / "train.parquet")["image_id"].to_numpy(np.int64)
    categories = categories_of(photos / "instances.parquet", train)
    path = root / "data/class_maps/test.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with ClassMapWriter(path, categories) as writer:
        for one in ids.tolist():
            own = found.filter(pa.array(found["image_id"].to_numpy() == one))
            own = own.filter(pa.array(np.isin(own["category"].to_numpy(), categories)))
            class_ = np.searchsorted(categories, own["category"].to_numpy())
            writer.add(one, paint(masks_of(own), class_, len(categories), (side, side)))


def found_of(true: pa.Table, side: int) -> pa.Table:
    """Regions of one photo."""
    masks, category = resized(masks_of(true), side, side), true["category"].to_numpy().astype(np.int64)
    kept = np.flatnonzero((np.arange(len(true)) % MISSED != MISSED - 1) & (masks.count > 0))
    pixels = np.roll(decode(masks.take(kept)), 1, axis=2) if len(kept) else np.zeros((0, side, side), bool)
    wrong = np.flatnonzero(np.arange(len(kept)) % FALSE == FALSE - 1)
    other = (category[kept][wrong] + 1) % 13
    batch = run_batch(encode(np.concatenate([pixels, pixels[wrong]])))
    image_id = true["image_id"].to_numpy()[:1].repeat(len(batch))
    columns = {
        "image_id": pa.array(image_id, pa.int64()),
        "region": pa.array(np.arange(len(batch)), pa.int32()),
        "category": pa.array(np.concatenate([category[kept], other]), pa.int32()),
        "score": pa.array(np.full(len(batch), 0.5), pa.float32()),
    }
    return pa.table({**columns, **{name: batch[name] for name in batch.schema.names}})
