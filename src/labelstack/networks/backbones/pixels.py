"""Colours of the image's centre, learnt pixel by pixel: 1 × 1 convolutions that end in a soft histogram.

For labels that say a colour, not a shape. With ``head.pooling: average`` the features are the shares of learnt colours.
"""

from __future__ import annotations

import keras
from keras import layers

from labelstack.errors import UserError
from labelstack.networks.backbones.architecture import Architecture, plus_minus_one


def _body(image_size: int, weights: str | None, *, filters: list[int], centre: float) -> keras.Model:
    if not 0 < centre <= 1:
        raise UserError(f"pixels: options.centre is the share of the side that is looked at, 0…1, not {centre}")
    margin = min(round(image_size * (1 - centre) / 2), (image_size - 1) // 2)
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    x = layers.Cropping2D(margin, name="centre")(image)
    for number, width in enumerate(filters, start=1):
        activation = "softmax" if number == len(filters) else "relu"
        x = layers.Conv2D(width, 1, activation=activation, name=f"colour_{number}")(x)
    x = layers.BatchNormalization(name="colour_bn")(x)
    return keras.Model(image, x, name="pixels")


ARCHITECTURES = {
    "pixels": Architecture(
        _body,
        plus_minus_one,
        {"filters": [64, 64, 48], "centre": 0.4, "batch_norm_momentum": 0.9},
        published=False,
    )
}
