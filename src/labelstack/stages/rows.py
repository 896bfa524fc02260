"""The rows that stages learn from and predict, and their labels. A row is an image that was downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.stages import paths
from labelstack.support.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Rows:
    """What is learned from and predicted.

    Attributes
    ----------
    split : where the rows come from
    row_id : int64 [n], in the manifest's order; names a row in predictions and folds. An image's row has its id.
    image_id : int64 [n], the image that shows the row
    Y : bool [n, n_labels], the targets
    known : str [n], the label group that each row knows; None: all of them
    maybe : bool [n, n_labels], labels that may be true besides; None: nobody says
    source : what belongs together, for each row; None: every row stands alone
    """

    split: Split
    row_id: NDArray[np.int64]
    image_id: NDArray[np.int64]
    Y: NDArray[np.bool_]
    known: NDArray[np.str_] | None = None
    source: NDArray[np.str_] | None = None
    maybe: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.row_id)

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        """The rows at which ``chosen`` bool [n] is true."""
        return Rows(
            self.split,
            self.row_id[chosen],
            self.image_id[chosen],
            self.Y[chosen],
            None if self.known is None else self.known[chosen],
            None if self.source is None else self.source[chosen],
            None if self.maybe is None else self.maybe[chosen],
        )

    def of_groups(self, groups: Sequence[str]) -> Rows:
        """The rows that know one of these label groups; without groups all."""
        return self if self.known is None or not groups else self.where(np.isin(self.known, groups))

    def named(self, row_id: NDArray[np.int64]) -> Rows:
        """The rows of these ids, in the order that they stand here in."""
        return self.where(np.isin(self.row_id, row_id))


@dataclass(frozen=True)
class MoreRows:
    """Rows of the test split to learn from: int64 [m] ids, and what is learned of them, float32 [m, n_labels]."""

    row_id: NDArray[np.int64]
    targets: NDArray[np.float32]


def stacking_split(params: Params) -> Split:
    """The split whose rows the second level learns from: validation, or train where base models have a fold each."""
    return "train" if params.by_fold else "validation"


def label_table() -> pd.DataFrame:
    """The table of labels: label_id, name, group and counts, in the order of every probability column."""
    import pandas as pd

    if not paths.LABELS.exists():
        raise UserError(f"{paths.LABELS}: not found. Run `dvc repro` (or `labelstack stage ingest`) first.")
    return pd.read_parquet(paths.LABELS)


def read_rows(split: Split) -> Rows:
    """The rows of a split whose images were downloaded; raise ``UserError`` when there is none."""
    found = rows_there(split)
    if not len(found):
        raise UserError(
            f"{paths.shards(split)}: not one image of the {split} split could be downloaded; "
            f"{paths.METRICS}/download/{split}.json counts the reasons"
        )
    return found


def rows_there(split: Split) -> Rows:
    """As ``read_rows``, of a split that may have none."""
    from labelstack.images.shards.shard_files import ok_ids

    return _of_manifest(split, ok_ids(paths.shards(split)))


def named_rows(split: Split, row_id: NDArray[np.int64]) -> Rows:
    """Rows of a split by their ids, int64 [n], in the manifest's order."""
    return _of_manifest(split, row_id)


def rows_in(split: Split, manifest: pd.DataFrame, labels: pd.DataFrame, there: NDArray[np.int64]) -> Rows:
    """The rows of a manifest that are ``there``, int64 [m] row ids, with targets in the order of the label table."""
    from labelstack.formats.manifest import label_matrix

    manifest = manifest[np.isin(manifest["image_id"], there)]
    Y = label_matrix(manifest["label_id"].tolist(), labels["label_id"].to_numpy())
    image_id = manifest["image_id"].to_numpy(np.int64)
    known = maybe = None
    if "known" in manifest:
        known = manifest["known"].to_numpy(np.str_)
        maybe = label_matrix(manifest["maybe"].tolist(), labels["label_id"].to_numpy()).astype(np.bool_)
    return Rows(split, image_id, image_id, Y.astype(np.bool_), known, maybe=maybe)


def _of_manifest(split: Split, there: NDArray[np.int64]) -> Rows:
    from labelstack.formats.manifest import read_manifest

    return rows_in(split, read_manifest(paths.manifest(split)), label_table(), there)
