"""Photos that segmenters learn from: which there are, their folds, what is true of their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.images.class_maps import ClassMaps, StoredMaps, StoredPhotos
from labelstack.images.shards.shard_files import ok_ids
from labelstack.masks.instance_table import categories_of
from labelstack.params import Params
from labelstack.stages import paths
from labelstack.support.errors import UserError

MOST_CLASSES = 255
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


@dataclass(frozen=True)
class PhotoSet:
    """Photos and their class maps."""

    photos: StoredPhotos
    maps: StoredMaps


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


def photo_categories(params: Params) -> Ids:
    """Ids of the categories that segmenters tell apart, ascending: those of train photos; raise ``UserError``.

    Place in this list is the class of a pixel; background is the class after the last.
    """
    places = photo_places(params)
    found = categories_of(places.instances, ok_ids(places.shards("train")))
    if not len(found):
        raise UserError(f"{places.instances}: no photo of train that is there has an instance to learn from")
    if len(found) > MOST_CLASSES - 1:
        raise UserError(
            f"{places.instances}: {len(found)} categories, and class maps tell {MOST_CLASSES - 1} and background apart"
        )
    return found


def photo_set(params: Params, split: str, image_id: Ids, categories: Ids, folder: Path) -> PhotoSet:
    """Some photos and what is true of their pixels; their JPEGs lie in ``folder`` meanwhile, in a file without name."""
    places = photo_places(params)
    photos = StoredPhotos(places.shards(split), image_id, folder)
    return PhotoSet(photos, StoredMaps(true_maps(params, photos.image_ids, categories), photos))


def true_maps(params: Params, image_id: Any, categories: Ids) -> ClassMaps:
    """Class maps of some photos as the data set has their instances."""
    classes = {category: class_ for class_, category in enumerate(categories.tolist())}
    on_top = params.dataset.instances.on_top
    return ClassMaps(photo_places(params).instances, image_id, classes, len(categories), on_top)
