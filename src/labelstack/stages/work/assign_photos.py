"""Folds of photos: which segmenters learn from which, so that each photo has some that did not learn from it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.formats.manifest import read_manifest
from labelstack.images.shards.shard_files import ok_ids
from labelstack.params import Params
from labelstack.params.folds import BlocksSection
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.sources import blocks
from labelstack.stages import paths
from labelstack.stages.fold_files import write_table
from labelstack.stages.photos import photo_places, whole_sources
from labelstack.stages.rows import rows_in
from labelstack.support.errors import UserError


def compute(params: Params) -> NDArray[np.int64]:
    """Write data/photo_folds.parquet; photos in each fold, int64 [k].

    Dealt by iterative stratification of the photos' labels, sources whole, or as ``folds.column`` says.

    Raises
    ------
    UserError
        When no photo of train is there, there are fewer photos (or sources) than folds, or folds given do not fit.
    """
    places, folds = photo_places(params), params.folds
    there = ok_ids(places.shards("train"))
    rows = rows_in("train", read_manifest(places.manifest("train")), pd.read_parquet(places(paths.LABELS)), there)
    if not len(rows):
        raise UserError(f"{places.shards('train')}: not one photo of train could be downloaded")
    beside = pd.read_parquet(places(paths.BESIDE))
    told = beside[beside["split"] == "train"].set_index("row_id").loc[rows.row_id]
    source = told["group"].to_numpy(np.str_)
    if isinstance(folds.group_by, BlocksSection):
        source = blocks(len(rows), folds.group_by.blocks).astype(str)
    if folds.column is None:
        fold = assign_folds(rows.Y, folds.k, folds.seed, source=whole_sources(source))
    else:
        fold = told["fold"].to_numpy(np.int64)
        if set(fold.tolist()) != set(range(folds.k)):
            raise UserError(
                f"folds.column: {folds.column} gives photos of train the folds {sorted(set(fold.tolist()))}, and with "
                f"folds.k {folds.k} each photo needs one of 0 … {folds.k - 1}, and each of these a photo"
            )
    write_table(paths.PHOTO_FOLDS, {"image_id": rows.row_id, "fold": fold, "source": source})
    return np.bincount(fold, minlength=folds.k)
