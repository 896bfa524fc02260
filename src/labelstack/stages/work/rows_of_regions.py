"""Regions of photos as rows: which there are, what their labels are, whose photo they are of; photo by photo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelstack.formats.manifest import read_manifest
from labelstack.formats.text_id import text_id
from labelstack.images.shards.shard_files import read_jpegs, shard_paths
from labelstack.masks.instance_table import masks_of, read_instances
from labelstack.masks.region_table import read_regions
from labelstack.masks.run_geometry import resized
from labelstack.masks.run_lengths import RunLengths, concatenated
from labelstack.params.dataset import PHOTOS
from labelstack.params.region_rows import RegionRowsSection
from labelstack.scoring.instance_precision import Instances, matches
from labelstack.stages import paths
from labelstack.stages.photos import PhotoPlaces
from labelstack.stages.rows import Split
from labelstack.support.errors import UserError

Ints = NDArray[np.int64]
TRUE, PREDICTED = "true", "predicted"


class PhotoRegions(NamedTuple):
    """The rows of one photo: its JPEG, and of each row id, name, label ids (None: not known), part and mask."""

    photo: int
    jpeg: memoryview
    row_id: list[int]
    name: list[str]
    labels: list[list[int] | None]
    part: list[str]
    masks: RunLengths


@dataclass
class Counted:
    """How many rows a split has."""

    photos: int = 0
    true: int = 0
    predicted: int = 0
    matched: int = 0
    without_attributes: int = 0
    crops: int = 0
    by_category: dict[int, int] = field(default_factory=dict)


def region_id(photo: int, part: str, number: int) -> int:
    """The row id of a photo's true instance or predicted region: 63 bits of a digest."""
    return text_id(f"{photo} {part} {number}")


def carriers(train: Ints, fewest: int) -> Ints:
    """Categories of which so many instances of these photos have attributes, int64 ascending.

    Raises
    ------
    UserError
        When there is none.
    """
    table = read_instances(place(paths.INSTANCES), train)
    worn = pc.greater(pc.list_value_length(table["attributes"]), 0)
    category, times = np.unique(table.filter(worn)["category"].to_numpy(), return_counts=True)
    found = category[times >= fewest].astype(np.int64)
    if not len(found):
        raise UserError(
            f"{place(paths.INSTANCES)}: no category has {fewest} instances with attributes in the train photos, so no "
            "region can be a row: lower region_rows…fewest, or leave region_rows out"
        )
    return found


place = PhotoPlaces(PHOTOS)


def photo_regions(
    split: Split, wanted: Ints, section: RegionRowsSection, known: NDArray[np.int64], counted: Counted
) -> Iterator[PhotoRegions]:
    """The rows of each photo that has any, in the order of the photos' shards, one shard in memory at a time.

    Train has true instances and the predicted regions that are one of them; validation the latter; test all predicted
    regions, labelled where they are a true one that ``dataset.answers`` knows.

    Parameters
    ----------
    wanted : int64 categories that are rows
    known : label ids that there are; others are left out
    """
    names = dict(read_manifest(place(paths.manifest(split)))[["image_id", "name"]].itertuples(index=False, name=None))
    truth = place(paths.TRUE_INSTANCES if split == "test" else paths.INSTANCES)
    labels = {int(label) for label in known}
    for shard in shard_paths(place(paths.shards(split))):
        jpegs = read_jpegs(shard)
        there = {int(i): jpeg for i, jpeg in zip(jpegs.image_id, jpegs.jpeg, strict=True) if jpeg is not None}
        ids = np.array(list(there), np.int64)
        true = _numbered(read_instances(truth, ids), wanted)
        found = read_regions(paths.regions(split), ids)
        found = found.filter(pa.array(np.isin(found["category"].to_numpy(), wanted)))
        match = matched(true, found, section.match)
        counted.photos += len(ids)
        counted.predicted += len(found)
        counted.matched += int((match >= 0).sum())
        of_true, of_found = (_by_photo(table["image_id"].to_numpy()) for table in (true, found))
        true_masks, found_masks = masks_of(true), masks_of(found)
        attributes = true["attributes"].to_pylist()
        number, region = true["number"].to_numpy(), found["region"].to_numpy()
        category = true["category"].to_numpy()
        for photo, jpeg in there.items():
            first, last = of_true.get(photo, (0, 0))
            own = np.arange(first, last) if split == "train" else np.zeros(0, np.int64)
            first, last = of_found.get(photo, (0, 0))
            predicted = np.arange(first, last)
            if split != "test":
                predicted = predicted[match[predicted] >= 0]
            if not len(own) + len(predicted):
                continue
            of = [*own.tolist(), *match[predicted].tolist()]
            parts = [TRUE] * len(own) + [PREDICTED] * len(predicted)
            numbers = [*number[own].tolist(), *region[predicted].tolist()]
            worn = [None if i < 0 else [one for one in attributes[i] if one in labels] for i in of]
            counted.true += len(own)
            counted.without_attributes += sum(one == [] for one in worn)
            for one in category[own].tolist():
                counted.by_category[one] = counted.by_category.get(one, 0) + 1
            yield PhotoRegions(
                photo,
                jpeg,
                [region_id(photo, part, n) for part, n in zip(parts, numbers, strict=True)],
                [f"{names[photo]} {part} {n}" for part, n in zip(parts, numbers, strict=True)],
                worn,
                parts,
                concatenated([true_masks.take(own), found_masks.take(predicted)]),
            )


def _numbered(table: pa.Table, wanted: Ints) -> pa.Table:
    """Instances of some categories, with their number within the photo among all of them."""
    ids = table["image_id"].to_numpy()
    first = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])) if len(ids) else np.zeros(0, np.int64)
    number = np.arange(len(ids)) - np.repeat(first, np.diff(np.append(first, len(ids))))
    table = table.append_column("number", pa.array(number))
    return table.filter(pa.array(np.isin(table["category"].to_numpy(), wanted)))


def _by_photo(ids: Ints) -> dict[int, tuple[int, int]]:
    """Photo → its first row and the one after its last; rows of a photo stand together."""
    photos, first, count = np.unique(ids, return_index=True, return_counts=True)
    return {int(p): (int(i), int(i + n)) for p, i, n in zip(photos, first, count, strict=True)}


def matched(true: pa.Table, found: pa.Table, match: float) -> Ints:
    """Which true instance each region is, int64 [n], −1: none: the same category and an IoU above ``match``."""
    result = np.full(len(found), -1, np.int64)
    photos = np.unique(found["image_id"].to_numpy())
    some = np.flatnonzero(np.isin(true["image_id"].to_numpy(), photos))
    if not len(some) or not len(found):
        return result
    given = _instances(found, photos, masks_of(found))
    size = given.masks.size
    truth = _instances(true.take(pa.array(some)), photos, resized(masks_of(true).take(some), *size))
    pairs = matches(truth, given, attributes=False)
    kept = pairs.shared > match * pairs.union
    result[pairs.given[kept]] = some[pairs.true[kept]]
    return result


def _instances(table: pa.Table, photos: Ints, masks: RunLengths) -> Instances:
    bare: list[Any] = [frozenset[int]()] * len(table)
    photo = np.searchsorted(photos, table["image_id"].to_numpy())
    return Instances(photo, table["category"].to_numpy().astype(np.int64), bare, masks)
