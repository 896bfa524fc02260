"""What several segmenters say of photos, as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstack.params.regions import RegionsSection

if TYPE_CHECKING:
    from labelstack.segmentation.segmenter import Segmenter

Pixels = NDArray[np.uint8]


def mean_probabilities(
    segmenters: Sequence[Segmenter], images: Sequence[Pixels], section: RegionsSection
) -> Iterator[NDArray[np.float32]]:
    """The mean of what segmenters say of photos, float32 [*section.size, classes] each, enlarged linearly."""
    height, width = section.size
    sums: list[dict[tuple[int, int], NDArray[np.float32]]] = [{} for _ in images]
    for segmenter in segmenters:
        for own, probability in zip(sums, segmenter.predict_proba(images, flip=section.flip), strict=True):
            size = probability.shape[:2]
            own[size] = own[size] + probability if size in own else probability
    for own in sums:
        large = (cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in own.values())
        total: Any = sum(large)
        yield np.asarray(total / np.float32(len(segmenters)), np.float32)
