"""SE-ResNeXt-50 and -101, 32 × 4d (Hu et al. 2018; Xie et al. 2017), as Cadene and as timm have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from numpy.typing import NDArray

from labelstack.networks.backbones.architecture import PUBLISHED_OPTIONS, Architecture, standardized
from labelstack.networks.backbones.pretrained import put_by_name
from labelstack.networks.backbones.torch_resnet import ResidualShape, residual_network
from labelstack.support.errors import UserError

_STEMS = ("timm", "legacy")
_OF_LEGACY = "layer0.conv1.weight"  # a tensor that one kind of file has alone


def load_state(body: keras.Model, tensors: Mapping[str, NDArray[Any]], source: str) -> None:
    """Put tensors into a network; their names must be those of its stem, ``timm`` or ``legacy``.

    Raises
    ------
    UserError
        When the names are those of the other stem.
    InputProblems
        See ``pretrained.put_by_name``.
    """
    stem = "legacy" if any(layer.name == "layer0.conv1" for layer in body.layers) else "timm"
    found = "legacy" if _OF_LEGACY in tensors else "timm" if "conv1.weight" in tensors else stem
    if found != stem:
        told = (
            "a legacy_ network of timm (or Cadene's)" if found == "legacy" else "a network of timm's, not a legacy_ one"
        )
        raise UserError(f"{source}: it is of {told}, which pools otherwise: set options.stem to {found}, not {stem}")
    put_by_name(body, tensors, "last_linear" if stem == "legacy" else "fc", source)


def _architecture(shape: ResidualShape) -> Architecture:
    def body(image_size: int, weights: str | None, *, stem: str) -> keras.Model:
        if stem not in _STEMS:
            raise UserError(f"options.stem: must be {' or '.join(_STEMS)}, not {stem!r}")
        return residual_network(image_size, shape, "legacy" if stem == "legacy" else "timm")

    options = {"stem": "timm", **PUBLISHED_OPTIONS}
    return Architecture(body, standardized, options, published=False, load_state=load_state)


SHAPES = {
    "se_resnext50": ResidualShape((3, 4, 6, 3), groups=32, group_width=4, squeeze=True),
    "se_resnext101": ResidualShape((3, 4, 23, 3), groups=32, group_width=4, squeeze=True),
}
ARCHITECTURES = {name: _architecture(shape) for name, shape in SHAPES.items()}
