"""DenseNet-161 as torchvision and timm have it (Huang et al. 2017); keras.applications has other depths.

A layer bears the name of the PyTorch module that its weights are named by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers
from numpy.typing import NDArray

from labelstack.networks.backbones.architecture import Architecture, standardized
from labelstack.networks.backbones.pretrained import put_by_name
from labelstack.networks.backbones.torch_layers import batch_norm, convolution, max_pool, rectified


@dataclass(frozen=True)
class DenseShape:
    """Layers of each block, and the channels that a layer adds; the stem has twice as many."""

    repeats: tuple[int, ...]
    growth: int


def dense_network(image_size: int, shape: DenseShape) -> keras.Model:
    """Preprocessed image [b, S, S, 3] → feature map [b, S/32, S/32, c], weights drawn."""
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    x = convolution(image, 2 * shape.growth, 7, "features.conv0", stride=2)
    x = max_pool(_normalized(x, "features.norm0"), "features.pool0")
    for number, repeats in enumerate(shape.repeats, 1):
        if number > 1:
            name = f"features.transition{number - 1}"
            x = convolution(_normalized(x, f"{name}.norm"), x.shape[-1] // 2, 1, f"{name}.conv")
            x = layers.AveragePooling2D(2, name=name)(x)
        for layer in range(1, repeats + 1):
            name = f"features.denseblock{number}.denselayer{layer}"
            more = convolution(_normalized(x, f"{name}.norm1"), 4 * shape.growth, 1, f"{name}.conv1")
            more = convolution(_normalized(more, f"{name}.norm2"), shape.growth, 3, f"{name}.conv2")
            x = layers.Concatenate(name=name)([x, more])
    return keras.Model(image, _normalized(x, "features.norm5"), name="dense_network")


def _normalized(x: Any, name: str) -> Any:
    return rectified(batch_norm(x, name), f"{name}.relu")


def load_state(body: keras.Model, tensors: Mapping[str, NDArray[Any]], source: str) -> None:
    """Put tensors, named as torchvision and timm name them, into a ``dense_network``.

    Raises
    ------
    InputProblems
        See ``pretrained.put_by_name``.
    """
    put_by_name(body, tensors, "classifier", source)


def _architecture(shape: DenseShape) -> Architecture:
    def body(image_size: int, weights: str | None) -> keras.Model:
        return dense_network(image_size, shape)

    return Architecture(body, standardized, published=False, load_state=load_state)


SHAPES = {"densenet161": DenseShape((6, 12, 36, 24), 48)}
ARCHITECTURES = {name: _architecture(shape) for name, shape in SHAPES.items()}
