"""Photos that segmenters learn from: where they lie, and their folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.stages import paths
from labelstack.support.errors import UserError

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class PhotoPlaces:
    """Where the photos lie."""

    into: str

    def __call__(self, path: Path) -> Path:
        """Where something that is of photos lies."""
        return paths.of_photos(path, self.into)

    def shards(self, split: str) -> Path:
        """The folder of a split's shards."""
        return self(paths.shards(split))

    def manifest(self, split: str) -> Path:
        """The manifest of one split."""
        return self(paths.manifest(split))

    @property
    def instances(self) -> Path:
        """The table of true instances."""
        return self(paths.INSTANCES)

    @property
    def true_instances(self) -> Path:
        """The table of test photos' instances, as the answers have them."""
        return self(paths.TRUE_INSTANCES)


@dataclass(frozen=True)
class PhotoFolds:
    """Train photos that are there.

    Attributes
    ----------
    image_id : int64 [n], in the manifest's order
    fold : int64 [n]
    source : str [n], what belongs together; empty: the photo stands alone
    """

    image_id: Ids
    fold: Ids
    source: NDArray[np.str_]

    def of(self, fold: int) -> Ids:
        """Photos of one fold."""
        return self.image_id[self.fold == fold]


def photo_places(params: Params) -> PhotoPlaces:
    """Where the photos of this params file lie."""
    return PhotoPlaces(params.dataset.into)


def read_photo_folds() -> PhotoFolds:
    """Read data/photo_folds.parquet; raise ``UserError`` when it is not there."""
    import pandas as pd

    try:
        table = pd.read_parquet(paths.PHOTO_FOLDS)
    except FileNotFoundError:
        typed = "labelstack stage photo_folds"
        raise UserError(f"{paths.PHOTO_FOLDS}: not found. Run `dvc repro` (or `{typed}`) first.") from None
    columns = table["image_id"].to_numpy(np.int64), table["fold"].to_numpy(np.int64)
    return PhotoFolds(*columns, table["source"].to_numpy(np.str_))


def whole_sources(source: NDArray[np.str_]) -> NDArray[np.str_] | None:
    """What belongs together, str [n]: a photo of which nothing is told stands alone; None where nothing is told."""
    alone = np.char.add("\n", np.arange(len(source)).astype(str))  # no cell of a file holds a line end
    return np.where(source == "", alone, source) if (source != "").any() else None
