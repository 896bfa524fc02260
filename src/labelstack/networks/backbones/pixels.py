"""Colours of the image's centre, learnt pixel by pixel: 1 × 1 convolutions that end in a soft histogram.

For labels that say a colour, not a shape. With ``head.pooling: average`` the features are the shares of learnt colours.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from labelstack.networks.backbones.architecture import Architecture, plus_minus_one
from labelstack.support.errors import UserError


def colour_map(image: Any, filters: list[int], centre: float) -> Any:
    """Shares of learnt colours at the centre's pixels: [b, h, w, 3] in −1…1 → [b, h · centre, w · centre, c]."""
    if not 0 < centre <= 1:
        raise UserError(f"options.centre is the share of the side that is looked at, above 0 to 1, not {centre}")
    side = image.shape[1]
    x = layers.Cropping2D(min(round(side * (1 - centre) / 2), (side - 1) // 2), name="centre")(image)
    for number, width in enumerate(filters, start=1):
        activation = "softmax" if number == len(filters) else "relu"
        x = layers.Conv2D(width, 1, activation=activation, name=f"colour_{number}")(x)
    return x


def _body(image_size: int, weights: str | None, *, filters: list[int], centre: float) -> keras.Model:
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    x = layers.BatchNormalization(name="colour_bn")(colour_map(image, filters, centre))
    return keras.Model(image, x, name="pixels")


ARCHITECTURES = {
    "pixels": Architecture(
        _body,
        plus_minus_one,
        {"filters": [64, 64, 48], "centre": 0.4, "batch_norm_momentum": 0.9},
        published=False,
    )
}
