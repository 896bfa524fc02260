"""What the report says of regions: scores, classes, photos with truth and prediction beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelstack.formats.manifest import read_manifest
from labelstack.images.pixels.decode import read_pixels
from labelstack.images.shards.shard_files import images_by_id, ok_ids
from labelstack.masks.instance_table import categories_of, masks_of, read_instances
from labelstack.masks.region_table import read_regions
from labelstack.masks.run_geometry import resized
from labelstack.params import Params
from labelstack.report.content import pick_gallery
from labelstack.report.html import GALLERY_SIDE
from labelstack.report.region_tables import RegionReport, ShownPhoto, iou_rows, score_rows
from labelstack.scoring.instance_precision import Instances, photo_scores
from labelstack.segmentation.region_picture import draw_regions, jpeg
from labelstack.stages import paths
from labelstack.stages.category_names import category_names
from labelstack.stages.photos import photo_places
from labelstack.support import storage
from labelstack.support.credentials import without_credentials

RANKED, SHOWN, WORST = 1000, 12, 6  # train photos: at most so many are scored, shown from best to worst, shown as worst
Ints = NDArray[np.int64]


def region_report(params: Params) -> RegionReport | None:
    """Scores and overlays of train photos by segmenters that did not learn from them; None without segmenters."""
    section = params.regions_section
    if section is None:
        return None
    places = photo_places(params)
    segmentation = storage.read_json(paths.SEGMENTATION)
    masks = storage.read_json(paths.MASK_SCORES)
    segmentation["test"] |= masks.get("test_segmentation") or {}
    splits, rows = iou_rows(segmentation)
    train = ok_ids(places.shards("train"))
    photos = spread(train, RANKED)
    true, found = read_instances(places.instances, photos), read_regions(paths.regions("train"), photos)
    scores = own_scores(photos, true, found, section.size)
    best_to_worst = pick_gallery(scores, SHOWN)
    worst = np.argsort(scores, kind="stable")[:WORST].tolist()
    shown = np.unique([*best_to_worst, *worst]).astype(np.int64)
    categories = categories_of(places.instances, train)
    names = dict(zip(categories.tolist(), category_names(params, categories), strict=True))
    place = {category: number for number, category in enumerate(categories.tolist())}
    called = _called(places.manifest("train"), photos[shown])
    stored = images_by_id(places.shards("train"), photos[shown])
    pictures = {}
    for i in shown.tolist():
        photo = int(photos[i])
        drawn = [
            drawn_regions(stored[photo], table.filter(pa.array(table["image_id"].to_numpy() == photo)), place, names)
            for table in (true, found)
        ]
        pictures[i] = ShownPhoto(called.get(photo, f"#{photo}"), float(scores[i]), *drawn)
    return RegionReport(
        score_rows(segmentation, masks),
        rows,
        splits,
        [pictures[i] for i in best_to_worst],
        [pictures[i] for i in worst],
        len(photos),
    )


def spread(ids: Ints, most: int) -> Ints:
    """At most so many of the ids, int64 [n], spread evenly over them."""
    if len(ids) <= most:
        return ids
    return ids[np.linspace(0, len(ids) - 1, most).round().astype(np.int64)]


def own_scores(photos: Ints, true: pa.Table, found: pa.Table, size: Sequence[int]) -> NDArray[np.float64]:
    """The score of each photo for categories alone, float64 [n], 0 … 1, at the size that regions were found at."""
    truth, given = (_instances(table, photos, size) for table in (true, found))
    return np.asarray(photo_scores(truth, given, len(photos), attributes=False), np.float64)


def drawn_regions(stored: bytes, table: pa.Table, place: Mapping[int, int], names: Mapping[int, str]) -> bytes:
    """A stored photo with the instances or regions of a table on it, JPEG, small.

    Parameters
    ----------
    place, names : of each category: its number, by which it is coloured, and what it is called
    """
    category = table["category"].to_pylist()
    score = table["score"].to_pylist() if "score" in table.column_names else [None] * len(category)
    texts = [
        names.get(one, str(one)) + ("" if p is None else f" {p:.2f}") for one, p in zip(category, score, strict=True)
    ]
    hues = [place.get(one, one) for one in category]
    photo = read_pixels(stored)
    return jpeg(draw_regions(photo, masks_of(table), hues, texts, (GALLERY_SIDE, GALLERY_SIDE)), 85)


def _instances(table: pa.Table, photos: Ints, size: Sequence[int]) -> Instances:
    bare: list[Any] = [frozenset[int]()] * len(table)
    order = np.argsort(photos)
    of = order[np.searchsorted(photos, table["image_id"].to_numpy(), sorter=order)]
    masks = resized(masks_of(table), *size)
    return Instances(of, table["category"].to_numpy().astype(np.int64), bare, masks)


def _called(manifest: Path, photos: Ints) -> dict[int, str]:
    """What may be shown of the names of photos, by id."""
    table = read_manifest(manifest)
    if "name" not in table:
        return {}
    here = table[table["image_id"].isin(photos)]
    return {int(i): without_credentials(name) for i, name in zip(here["image_id"], here["name"], strict=True)}
