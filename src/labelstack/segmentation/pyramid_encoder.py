"""A backbone as the encoder of a U-Net: its feature maps at strides 2, 4, 8 …, for images of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from labelstack.networks.backbones import architecture_of, build_backbone
from labelstack.networks.depth import layer_groups, pyramid
from labelstack.params.backbone_names import backbone_of
from labelstack.support.errors import UserError

_DEEP = 2  # of the encoder's groups of equal stride, that are layer group 2; those before are group 1


@dataclass(frozen=True)
class PyramidEncoder:
    """What a decoder stands on.

    Attributes
    ----------
    network : keras.Model
        Named ``encoder``: preprocessed image [b, H, W, 3], sides divisible by ``stride`` → its maps, the finest first.
    preprocessing : keras.layers.Layer
        Pixels 0…255 RGB → what ``network`` wants.
    strides : of the maps: 2, 4, 8, …
    early : names of the layers of group 1; all others of the encoder are group 2
    """

    network: keras.Model
    preprocessing: keras.layers.Layer
    strides: tuple[int, ...]
    early: frozenset[str]

    @property
    def stride(self) -> int:
        """Of the deepest map."""
        return self.strides[-1]


def pyramid_encoder(name: str, weights: str, options: Mapping[str, Any]) -> PyramidEncoder:
    """Cut the maps of each stride out of a backbone.

    Arguments as of ``build_backbone``. Of ResNet-34 the maps are those of ``relu`` and of the four stages.

    Raises
    ------
    UserError
        Options or weights that the backbone does not take; a backbone whose maps are not the image's size divided by
        2, 4, 8 …, such as those with unpadded convolutions.
    """
    probe = _probe_side(name)
    backbone = build_backbone(name, probe, weights, options)
    body = backbone.get_layer("body")
    maps = {stride: body.get_layer(layer).output for stride, layer in pyramid(backbone).items()}
    strides = tuple(maps)
    wrong = [s for s, map_ in maps.items() if tuple(map_.shape[1:3]) != (probe // s, probe // s)]
    if wrong or len(strides) < 2 or strides != tuple(2 ** (n + 1) for n in range(len(strides))):
        sides = ", ".join(f"{probe} / {s}: {map_.shape[1]}" for s, map_ in maps.items())
        raise UserError(
            f"backbone {name}: is no encoder: its maps must have 1/2, 1/4, 1/8 … of the image's sides, and of {probe} "
            f"px they have {sides or 'none'}. Take another, such as resnet34 or efficientnet_lite0"
        )
    sized = keras.Model(body.input, list(maps.values()), name="encoder")
    image = keras.Input((None, None, 3), name="preprocessed")
    network = keras.models.clone_model(sized, input_tensors=image)
    network.set_weights(sized.get_weights())
    network.name = "encoder"
    groups = layer_groups(backbone)
    early = frozenset(layer.name for group in groups[:-_DEEP] for layer in group)
    return PyramidEncoder(network, architecture_of(name).preprocessing(), strides, early)


def _probe_side(name: str) -> int:
    """A power of two that every architecture takes."""
    side = 64
    while side < backbone_of(name).smallest:
        side *= 2
    return side
