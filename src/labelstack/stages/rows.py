"""The rows that stages learn from and predict: images that were downloaded, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstack.stages import paths
from labelstack.support.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Targets:
    """Images of a split that were downloaded, with their labels.

    Attributes
    ----------
    image_id : int64 [n], in the manifest's order
    Y : bool [n, n_labels]
    """

    image_id: NDArray[np.int64]
    Y: NDArray[np.bool_]


def label_table() -> pd.DataFrame:
    """The table of labels: label_id, name, group and counts, in the order of every probability column."""
    import pandas as pd

    if not paths.LABELS.exists():
        raise UserError(f"{paths.LABELS}: not found. Run `dvc repro` (or `labelstack stage ingest`) first.")
    return pd.read_parquet(paths.LABELS)


def targets(split: str) -> Targets:
    """Ids and labels of the images of a split whose download succeeded; raise ``UserError`` when there is none."""
    from labelstack.formats.manifest import label_matrix, read_manifest
    from labelstack.images.shards.shard_files import ok_ids

    manifest = read_manifest(paths.manifest(split))
    manifest = manifest[np.isin(manifest["image_id"], ok_ids(paths.shards(split)))]
    if manifest.empty:
        raise UserError(
            f"{paths.shards(split)}: not one image of the {split} split could be downloaded; "
            f"{paths.METRICS}/download/{split}.json counts the reasons"
        )
    Y = label_matrix(manifest["label_id"].tolist(), label_table()["label_id"].to_numpy())
    return Targets(manifest["image_id"].to_numpy(np.int64), Y.astype(np.bool_))
