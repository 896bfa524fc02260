"""Sizes, narrow twins and drawn weights of the networks that competition solutions of 2018 and 2019 used.

NumPy alone: what a reference of another library and our networks share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from networks.seeded_weights import drawn

SIZES = {"inception_v4": 299, "pnasnet5_large": 331, "cbam_resnet50": 224, "gluon_resnet152_v2": 224}
# One that strides divide, one that they do not.
TWIN_SIZES = {name: (75, 86) if name == "inception_v4" else (32, 45) for name in SIZES}
TWINS: dict[str, dict[str, Any]] = {
    "inception_v4": {"width": 0.125, "repeats": (1, 2, 1)},
    "pnasnet5_large": {"stem": 12, "filters": 4, "repeats": (2, 1, 1)},
    "cbam_resnet50": {"stem": 8, "repeats": (2, 1, 1, 1), "reduction": 4},
    "gluon_resnet152_v2": {"stem": 8, "repeats": (2, 1, 2, 1)},
}
# Factors that keep activations near 1 where sums pile up.
_FACTORS = {
    "inception_v4": (r"\.conv\.weight$", 0.9),
    "pnasnet5_large": (r"\.conv_(prev_)?1x1\..*conv\.weight$", 0.3),
    "cbam_resnet50": (r"\.conv3\.weight$", 0.5),
    "gluon_resnet152_v2": (r"\.conv3\.weight$", 0.15),
}


def drawn_for(network: str, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, NDArray[Any]]:
    """A tensor for each name, as the network's published file names them."""
    pattern, factor = _FACTORS[network]
    return {
        name: tensor * tensor.dtype.type(factor) if re.search(pattern, name) else tensor
        for name, tensor in drawn(shapes).items()
    }
