"""How right class maps are: scores with intervals and the IoU of each class, and the counts of test photos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelstack.masks.class_map_table import class_map_groups, map_categories
from labelstack.masks.painted_maps import ClassMaps, OnTop
from labelstack.segmentation.confusion import (
    bootstrap_scores,
    class_counts,
    class_iou,
    confusion_matrix,
    pixel_scores,
)

Counts = NDArray[np.int32]


def counts_of_maps(maps: Path, truth: Path, on_top: OnTop) -> Counts | None:
    """``confusion.class_counts`` of each photo of a table of class maps, int32 [photos, 3, classes].

    A few photos are in memory at a time. Instances of categories that no class has count as background.

    Parameters
    ----------
    truth : table of the photos' instances; without rows nothing is known, and None is given
    on_top : what is seen where instances overlap
    """
    if pq.read_metadata(truth).num_rows == 0:
        return None
    categories = map_categories(maps)
    background = len(categories)
    classes = {category: class_ for class_, category in enumerate(categories.tolist())}
    counts = []
    for group in class_map_groups(maps):
        true = ClassMaps(truth, [image_id for image_id, _ in group], classes, background, on_top)
        for image_id, given in group:
            matrix = confusion_matrix(true.at(image_id, *given.shape), given, background + 1)
            counts.append(class_counts(matrix).astype(np.int32))
    return np.array(counts, np.int32).reshape(-1, 3, background + 1)


def told_scores(counts: Counts, names: Sequence[str], seed: int) -> dict[str, Any]:
    """What a file of metrics says of photos: ``pixel_scores``, their 95 % intervals over photos, the IoU of each class.

    Parameters
    ----------
    counts : int32 [photos, 3, classes], one photo at least
    names : of the classes without background
    """
    background, total = len(names), counts.sum(axis=0, dtype=np.int64)
    intervals = bootstrap_scores(counts, background, seed=seed)
    content: dict[str, Any] = {key: _number(value) for key, value in pixel_scores(total, background).items()}
    content["intervals"] = {key: [_number(end) for end in ends] for key, ends in intervals.items()}
    content["class_iou"] = {
        name: _number(value) for name, value in zip([*names, "background"], class_iou(total).tolist(), strict=True)
    }
    return content


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
