"""The small twin of each backbone: the same family and code, so few layers that a step takes seconds on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from labelstack.params.models import BACKBONE_MIN_SIZE

# Options that make the twin. A published network is built whole, as in the real run, and cut off early.
TWINS: dict[str, Mapping[str, Any]] = {
    "densenet121": {"until": "pool2_pool"},
    "densenet201": {"until": "pool2_pool"},
    "inception_v3": {"until": "mixed0"},
    "inception_resnet_v2": {"until": "mixed_5b"},
    "resnet50": {"until": "conv2_block1_out"},
    "resnet152_v2": {"until": "conv2_block1_out"},
    "nasnet": {"until": "reduction_concat_stem_1"},
    "xception": {"until": "block3_pool"},
    "efficientnet_b0": {"until": "block2a_project_bn"},
    "mobilenet": {"alpha": 0.25, "until": "conv_pw_2_relu"},
    "mobilenet_v2": {"alpha": 0.35, "until": "block_2_add"},
    "small_cnn": {"filters": [8, 16], "convolutions": 1},
    "small_resnet": {"filters": [8, 16], "blocks": 1},
    "pixels": {"filters": [16, 16]},
    "silhouette": {"filters": [8, 8]},
    "silhouette_pixels": {"filters": [8, 8], "colours": [16, 16], "units": 16},
}
OWN = frozenset({"descriptors"})  # nothing to learn below the head: small as it is


def small_options(backbone: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A model's options with those of the twin put in."""
    return {**options, **copy.deepcopy(TWINS.get(backbone, {}))}


def small_size(backbone: str, image_size: int, options: Mapping[str, Any]) -> int:
    """Side of the twin's images in pixels: the backbone's minimum, and never more than the recipe's own."""
    cells = max(2 * options.get("cell", 0), 4 * options.get("map_cell", 0))  # of descriptors
    return min(image_size, max(BACKBONE_MIN_SIZE[backbone], cells))
