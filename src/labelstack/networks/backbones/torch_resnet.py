"""Residual networks as torchvision and timm have them (He et al. 2016; the stride lies in the 3 × 3 convolution).

Not keras.applications' ``resnet50`` and ``resnet152_v2``, which stride elsewhere, pad otherwise and have biases. A
layer bears the name of the PyTorch module that its weights are named by; a block's last layer bears the block's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import layers
from numpy.typing import NDArray

from labelstack.networks.backbones.architecture import Architecture, standardized
from labelstack.networks.backbones.pretrained import put_by_name
from labelstack.networks.backbones.torch_layers import (
    batch_norm,
    convolution,
    initializer,
    max_pool,
    max_pool_ceil,
    rectified,
)

Stem = Literal["timm", "legacy"]


@dataclass(frozen=True)
class ResidualShape:
    """One network of the family.

    Attributes
    ----------
    repeats : blocks of each stage
    channels : of each stage's 3 × 3 convolutions at one group; a stage gives ``channels × expansion``
    expansion : 1 of two 3 × 3 convolutions (no groups), 4 of 1 × 1, 3 × 3, 1 × 1
    groups, group_width : of the 3 × 3 convolutions of stage 0, in which a group has ``group_width`` channels; at one
        group ``channels``
    squeeze : whether blocks weigh their channels (Hu et al. 2018)
    """

    repeats: tuple[int, ...]
    channels: tuple[int, ...] = (64, 128, 256, 512)
    expansion: Literal[1, 4] = 4
    groups: int = 1
    group_width: int = 64
    squeeze: bool = False

    def width(self, stage: int) -> int:
        """Channels of the 3 × 3 convolutions."""
        return self.channels[stage] * self.group_width // 64 * self.groups


def residual_network(image_size: int, shape: ResidualShape, stem: Stem = "timm") -> keras.Model:
    """Preprocessed image [b, S, S, 3] → feature map [b, S/32, S/32, c], weights drawn.

    Parameters
    ----------
    stem : ``timm`` pads by 1 before the first pooling; ``legacy`` lets the last window hang over, and names layers as
        Cadene's networks do
    """
    outer, squeezer, pool = ("layer0.", "se_module", max_pool_ceil) if stem == "legacy" else ("", "se", max_pool)
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    x = convolution(image, 64, 7, f"{outer}conv1", stride=2)
    x = rectified(batch_norm(x, f"{outer}bn1"), f"{outer}relu")
    x = pool(x, f"{outer}pool")
    for stage, repeats in enumerate(shape.repeats):
        for number in range(repeats):
            stride = 2 if stage > 0 and number == 0 else 1
            x = _block(x, shape, stage, stride, f"layer{stage + 1}.{number}", squeezer)
    return keras.Model(image, x, name="residual_network")


def _block(before: Any, shape: ResidualShape, stage: int, stride: int, name: str, squeezer: str) -> Any:
    filters = shape.channels[stage] * shape.expansion
    if shape.expansion == 1:
        x = convolution(before, filters, 3, f"{name}.conv1", stride=stride)
        x = rectified(batch_norm(x, f"{name}.bn1"), f"{name}.relu1")
        x = batch_norm(convolution(x, filters, 3, f"{name}.conv2"), f"{name}.bn2")
    else:
        width = shape.width(stage)
        x = convolution(before, width, 1, f"{name}.conv1")
        x = rectified(batch_norm(x, f"{name}.bn1"), f"{name}.relu1")
        x = convolution(x, width, 3, f"{name}.conv2", stride=stride, groups=shape.groups)
        x = rectified(batch_norm(x, f"{name}.bn2"), f"{name}.relu2")
        x = batch_norm(convolution(x, filters, 1, f"{name}.conv3"), f"{name}.bn3")
    if shape.squeeze:
        x = _weighed(x, f"{name}.{squeezer}")
    if stride > 1 or before.shape[-1] != filters:
        before = convolution(before, filters, 1, f"{name}.downsample.0", stride=stride)
        before = batch_norm(before, f"{name}.downsample.1")
    return rectified(layers.Add(name=f"{name}.add")([x, before]), name)


def _weighed(x: Any, name: str) -> Any:
    """Each channel times what two layers make of all channels' means: squeeze and excitation."""
    channels = x.shape[-1]
    squeezed = max(8, (channels // 16 + 4) // 8 * 8)  # as timm rounds; of the published networks channels / 16
    weight = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.mean")(x)
    for part, filters, activation in (("fc1", squeezed, "relu"), ("fc2", channels, "sigmoid")):
        weight = layers.Conv2D(
            filters, 1, activation=activation, kernel_initializer=initializer(), name=f"{name}.{part}"
        )(weight)
    return layers.Multiply(name=f"{name}.scale")([x, weight])


def load_state(body: keras.Model, tensors: Mapping[str, NDArray[Any]], source: str) -> None:
    """Put tensors, named as torchvision and timm name them, into a ``residual_network``.

    Raises
    ------
    InputProblems
        See ``pretrained.put_by_name``.
    """
    put_by_name(body, tensors, "fc", source)


def _architecture(shape: ResidualShape) -> Architecture:
    def body(image_size: int, weights: str | None) -> keras.Model:
        return residual_network(image_size, shape)

    return Architecture(body, standardized, published=False, load_state=load_state)


SHAPES = {
    "resnet34": ResidualShape((3, 4, 6, 3), expansion=1),
    "resnet50_v1": ResidualShape((3, 4, 6, 3)),
    "resnet152_v1": ResidualShape((3, 8, 36, 3)),
}
ARCHITECTURES = {name: _architecture(shape) for name, shape in SHAPES.items()}
