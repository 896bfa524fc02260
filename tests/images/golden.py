"""The fixed input and policies of the stored augmenter outputs; run as a script it writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from images.server import picture
from labelstack.images.pixels.augment import build_augmenter
from labelstack.params.augment import AugmentSection
from labelstack.params.augment_operations import OPERATIONS

PATH = Path(__file__).parent / "data/augment_golden.npz"
OFF: dict[str, Any] = {
    "flip": 0,
    **dict.fromkeys(
        ["rotate", "hue_and_saturation", "gaussian_blur", "contrast", "sharpen", "emboss", "crop"], (0.0, 0.0)
    ),
    "chance": 1,
}
POLICIES: dict[str, dict[str, Any]] = {
    "flip": {"flip": 1},
    "rotate": {"rotate": (10, 20)},
    "hue_and_saturation": {"hue_and_saturation": (20, 30)},
    "gaussian_blur": {"gaussian_blur": (1, 2)},
    "contrast": {"contrast": (1.3, 1.6)},
    "sharpen": {"sharpen": (0.4, 0.6)},
    "emboss": {"emboss": (0.4, 0.6)},
    "crop": {"crop": (0.1, 0.2)},
    "erase": {"erase": {"chance": 1, "area": (0.1, 0.3)}},
    **{f"one_of {name}": {"one_of": [{"chance": 1, "of": {name: {}}}]} for name in OPERATIONS},
}


IDS = np.arange(1, 5)


def only(name: str) -> AugmentSection:
    """The policy with one operation, always applied; ``all`` is the default policy."""
    return AugmentSection() if name == "all" else AugmentSection(**{**OFF, **POLICIES[name]})


def batch(n: int = 4) -> NDArray[np.uint8]:
    """uint8 [n, 24, 32, 3]."""
    return np.stack([picture(seed, 32, 24) for seed in range(n)])


def outputs() -> dict[str, NDArray[np.uint8]]:
    """Every policy applied to the fixed batch with the fixed seed, and the batch itself."""
    augmented = {name: build_augmenter(only(name))(batch(), 11, IDS) for name in [*POLICIES, "all"]}
    return {"batch": batch(), **augmented}


if __name__ == "__main__":
    np.savez_compressed(PATH, **outputs())
