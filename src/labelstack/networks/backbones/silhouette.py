"""A small VGG-like network that sees only where the object is, not its colours: it cannot memorise backgrounds.

For photo sets too small to learn that distinction. ``silhouette_pixels`` adds the colours of the centre as a second
branch, joined after pooling, so one network answers shape labels and colour labels.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from labelstack.networks.backbones.architecture import Architecture, plus_minus_one
from labelstack.networks.backbones.descriptor_layers import ForegroundMap, ForegroundOdds, LabColour
from labelstack.networks.backbones.pixels import colour_map
from labelstack.support.errors import UserError


def _silhouette(image: Any, filters: list[int], odds: bool, dropout: float) -> Any:
    """Image in −1…1 → feature map [b, h, w, filters[-1]] of the foreground map (and the odds)."""
    if image.shape[1] >> len(filters) < 1:
        raise UserError(f"silhouette: {len(filters)} entries of filters halve {image.shape[1]} px too often")
    colours = LabColour(name="lab")(layers.Rescaling(127.5, offset=127.5, dtype="float32", name="bytes")(image))
    maps = [ForegroundMap(name="foreground")(colours)] + ([ForegroundOdds(name="odds")(colours)] if odds else [])
    maps = [layers.AveragePooling2D(3, strides=1, padding="same")(each) for each in maps]
    x = layers.Concatenate(name="maps")(maps) if odds else maps[0]
    for block, width in enumerate([*filters, filters[-1]], start=1):
        name = f"block_{block}"
        x = layers.Conv2D(
            width, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
        )(x)
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        x = layers.Activation("relu", name=f"{name}_relu")(x)
        if block <= len(filters):
            x = layers.MaxPooling2D(name=f"{name}_pool")(x)
    return layers.Dropout(dropout, name="map_dropout")(x) if dropout else x


def _shape(image_size: int, weights: str | None, *, filters: list[int], odds: bool, dropout: float) -> keras.Model:
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    return keras.Model(image, _silhouette(image, filters, odds, dropout), name="silhouette")


def _shape_and_colour(
    image_size: int, weights: str | None, *, filters: list[int], colours: list[int], centre: float, units: int,
    dropout: float,
) -> keras.Model:  # fmt: skip
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    shape = layers.Flatten(name="shape")(_silhouette(image, filters, True, dropout))
    shape = layers.Dense(units, activation="relu", name="shape_dense")(shape)
    shape = layers.Dropout(dropout, name="shape_dropout")(shape)
    colour = layers.GlobalAveragePooling2D(name="colour_shares")(colour_map(image, colours, centre))
    colour = layers.BatchNormalization(name="colour_bn")(colour)
    colour = layers.Dense(units, activation="relu", name="colour_dense")(colour)
    colour = layers.Dropout(dropout / 2, name="colour_dropout")(colour)
    joined = layers.Concatenate(name="joined")([shape, colour])
    return keras.Model(image, layers.Reshape((1, 1, 2 * units), name="map")(joined), name="silhouette_pixels")


ARCHITECTURES = {
    "silhouette": Architecture(
        _shape,
        plus_minus_one,
        {"filters": [16, 32, 64], "odds": True, "dropout": 0.4, "batch_norm_momentum": 0.9},
        published=False,
    ),
    "silhouette_pixels": Architecture(
        _shape_and_colour,
        plus_minus_one,
        {
            "filters": [16, 32, 64],
            "colours": [64, 64, 48],
            "centre": 0.4,
            "units": 96,
            "dropout": 0.4,
            "batch_norm_momentum": 0.9,
        },
        published=False,
    ),
}
