"""Photos in, regions out: what segmenters find in a photo, with the attributes that the ensemble gives each region."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelstack.ensemble.region_form import RegionForm, segmenter_folder
from labelstack.masks.instance_table import masks_of
from labelstack.masks.run_geometry import boxes
from labelstack.masks.run_lengths import RunLengths, paint, smallest_last
from labelstack.masks.run_text import write_runs
from labelstack.scoring.attribute_rule import candidate_sets, chance_of, written

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class PhotoMasks:
    """Regions of one photo, by falling score.

    Attributes
    ----------
    category : int64 [n], ids as in the data set's files
    score : float32 [n], 0 … 1
    masks : n of them, of the class map's size, to which the photo is squashed
    """

    category: NDArray[np.int64]
    score: Floats
    masks: RunLengths


@dataclass(frozen=True)
class LabelledPhoto:
    """What an ensemble says of one photo.

    Attributes
    ----------
    regions : a mapping for each, see ``Ensemble.regions``
    error : why nothing is said; None where something is
    jpeg : the photo as the networks saw it
    found : the same regions as masks
    """

    regions: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    jpeg: bytes = b""
    found: PhotoMasks | None = None


# Photos as they are stored → the regions of each.
Finder = Callable[[Sequence[bytes]], Iterator[PhotoMasks]]


def load_finder(folder: Path, form: RegionForm) -> Finder:
    """The segmenters of an ensemble's folder, and what becomes of their class maps."""
    from labelstack.images.pixels.decode import read_pixels
    from labelstack.networks.determinism import deterministic_operations
    from labelstack.segmentation.mean_maps import mean_probabilities
    from labelstack.segmentation.regions import find_regions
    from labelstack.segmentation.segmenter import Segmenter

    deterministic_operations()
    networks = [Segmenter.load(folder / segmenter_folder(*one)) for one in form.networks]
    categories = form.category_ids

    def find(jpegs: Sequence[bytes]) -> Iterator[PhotoMasks]:
        for probability in mean_probabilities(networks, [read_pixels(jpeg) for jpeg in jpegs], form.found):
            regions = find_regions(probability, len(categories), form.found)
            yield PhotoMasks(categories[regions.class_], regions.score, regions.masks)

    return find


def recorded_masks(table: pa.Table, photo: int) -> PhotoMasks:
    """The regions of one photo in a table of regions."""
    own = table.filter(pa.array(table["image_id"].to_numpy() == photo))
    return PhotoMasks(
        own["category"].to_numpy().astype(np.int64), own["score"].to_numpy().astype(np.float32), masks_of(own)
    )


def same_masks(one: PhotoMasks, other: PhotoMasks) -> bool:
    """Whether two have the same regions to the last bit, in the same order."""
    columns = ((one.category, other.category), (one.score, other.score))
    runs = ((getattr(one.masks, name), getattr(other.masks, name)) for name in ("start", "length", "first"))
    return all(np.array_equal(a, b) for a, b in (*columns, *runs))


def pixels_apart(one: PhotoMasks, other: PhotoMasks, size: tuple[int, int]) -> float:
    """The share of a photo's pixels, 0 … 1, that the regions of two give another category; larger regions below."""
    maps = [
        paint(found.masks.take(order), found.category[order], -1, size)
        for found in (one, other)
        for order in (smallest_last(found.masks),)
    ]
    return float((maps[0] != maps[1]).mean())


def crops_with_attributes(form: RegionForm, jpeg: bytes, found: PhotoMasks) -> tuple[Bools, list[bytes]]:
    """Which regions of a stored photo the ensemble is shown, bool [n], and those, cut out as JPEG."""
    from labelstack.images.region_crops import CropStyle, crops

    asked = np.isin(found.category, form.rows)
    how = CropStyle.of(form, form.jpeg_quality)
    return asked, [crop.jpeg for crop in crops(jpeg, found.masks.take(asked), how)]


def answers(
    form: RegionForm,
    labels: Sequence[tuple[int, str]],
    found: PhotoMasks,
    asked: Bools,
    probability: Floats,
    decided: Bools,
    *,
    all_probabilities: bool,
) -> list[dict[str, Any]]:
    """What is said of each region, in words and numbers, see ``Ensemble.regions``.

    Parameters
    ----------
    labels : id and name of each, in the order of the probability columns
    asked : bool [n], which regions the ensemble was shown
    probability, decided : float32 and bool [n_asked, n_labels]
    """
    sets = candidate_sets(decided, probability)
    chances = np.stack([chance_of(one, probability) for one in sets], axis=1)
    chosen = written(form.rule, found.category[asked], chances)
    place = np.cumsum(asked) - 1
    said = []
    texts, sides = write_runs(found.masks), boxes(found.masks).tolist()
    for i, category in enumerate(found.category.tolist()):
        own = place[i] if asked[i] else None
        worn = [] if own is None or chosen[own] < 0 else np.flatnonzero(sets[chosen[own]][own]).tolist()
        one: dict[str, Any] = {
            "category_id": category,
            "category": form.names[category],
            "score": float(found.score[i]),
            "attribute_id": [labels[label][0] for label in worn],
            "attributes": [labels[label][1] for label in worn],
            "probability": [float(probability[own, label]) for label in worn],
            "box": sides[i],
            "size": [int(found.masks.height[i]), int(found.masks.width[i])],
            "runs": texts[i],
        }
        if all_probabilities:
            one["probabilities"] = [] if own is None else [float(p) for p in probability[own]]
        said.append(one)
    return said
