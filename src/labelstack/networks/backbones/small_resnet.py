"""A small residual network (He et al. 2016, basic blocks, 3×3 stem) for small images and CPUs."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from labelstack.networks.backbones.architecture import Architecture, plus_minus_one
from labelstack.support.errors import UserError


def _body(image_size: int, weights: str | None, *, filters: list[int], blocks: int, dropout: float) -> keras.Model:
    if not 1 <= blocks <= 64 or image_size >> (len(filters) - 1) < 1:
        raise UserError(
            f"small_resnet: every entry of filters but the first halves the image, so at {image_size} px at most "
            f"{image_size.bit_length()} fit, not {len(filters)}; blocks must be 1…64, not {blocks}"
        )
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    x = _convolution(image, filters[0], 3, 1, "stem")
    x = layers.Activation("relu", name="stem_relu")(x)
    for stage, width in enumerate(filters, start=1):
        for number in range(1, blocks + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            x = _block(x, width, stride, f"stage_{stage}_block_{number}")
        if dropout:
            x = layers.SpatialDropout2D(dropout, name=f"stage_{stage}_dropout")(x)
    return keras.Model(image, x, name="small_resnet")


def _block(x: Any, width: int, stride: int, name: str) -> Any:
    shortcut = x
    if stride > 1 or x.shape[-1] != width:
        if stride > 1:
            shortcut = layers.AveragePooling2D(2, padding="same", name=f"{name}_shortcut_pool")(shortcut)
        shortcut = _convolution(shortcut, width, 1, 1, f"{name}_shortcut")
    x = _convolution(x, width, 3, stride, f"{name}_conv_1")
    x = layers.Activation("relu", name=f"{name}_relu_1")(x)
    # A block that starts as the identity (last scale zero) trains steadier: Goyal et al. 2017.
    x = _convolution(x, width, 3, 1, f"{name}_conv_2", gamma="zeros")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_relu_2")(x)


def _convolution(x: Any, width: int, kernel: int, stride: int, name: str, gamma: str = "ones") -> Any:
    x = layers.Conv2D(width, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(
        x
    )
    return layers.BatchNormalization(gamma_initializer=gamma, name=f"{name}_bn")(x)


ARCHITECTURES = {
    "small_resnet": Architecture(
        _body,
        plus_minus_one,
        {"filters": [32, 64, 128, 256], "blocks": 2, "dropout": 0.0, "batch_norm_momentum": 0.9},
        published=False,
    )
}
