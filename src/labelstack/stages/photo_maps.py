"""What is true of the pixels of photos, as segmenters learn it and are scored by it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelstack.images.class_maps import StoredMaps, StoredPhotos
from labelstack.images.shards.shard_files import ok_ids
from labelstack.masks.instance_table import categories_of
from labelstack.masks.painted_maps import ClassMaps
from labelstack.params import Params
from labelstack.stages.photos import Ids, photo_places
from labelstack.support.errors import UserError

MOST_CLASSES = 255


@dataclass(frozen=True)
class PhotoSet:
    """Photos and their class maps."""

    photos: StoredPhotos
    maps: StoredMaps


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
