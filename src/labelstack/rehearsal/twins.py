"""The small twin of each backbone: the same family and code, so few layers that a step takes seconds on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from labelstack.params.backbone_names import backbone_of


def small_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A model's options with those of its backbone's twin put in."""
    return {**options, **copy.deepcopy(dict(backbone_of(name).twin))}


def small_size(name: str, image_size: int, options: Mapping[str, Any]) -> int:
    """Side of the twin's images in pixels: the backbone's minimum, and never more than the recipe's own."""
    cells = max(2 * options.get("cell", 0), 4 * options.get("map_cell", 0))  # of descriptors
    return min(image_size, max(backbone_of(name).smallest, cells))
