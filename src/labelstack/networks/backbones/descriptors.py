"""Fixed shape descriptors (nothing to learn below the head), for photo sets too small to learn edges from.

Oriented gradients of the colours and of a map of what is unlike the border, and that map itself. Wants images that are
not stretched (``resize: letterbox``) and ``head.pooling: flatten``.
"""

from __future__ import annotations

import keras
from keras import layers

from labelstack.networks.backbones.architecture import Architecture
from labelstack.networks.backbones.descriptor_layers import ForegroundMap, LabColour, OrientedGradients
from labelstack.support.errors import UserError

# Descriptors of unit length per block are small numbers beside a dense layer's initial weights.
_GRADIENT_GAIN, _MAP_GAIN = 4.0, 3.0


def _colours() -> layers.Layer:
    return LabColour(dtype="float32", name="preprocessing")


def _body(
    image_size: int, weights: str | None, *, cell: int, map_cell: int, border: float, dropout: float
) -> keras.Model:
    if image_size < 2 * cell or image_size // 2 < 2 * map_cell:
        raise UserError(
            f"descriptors: at {image_size} px cell may be at most {image_size // 2}, map_cell {image_size // 4}"
        )
    if not 0 < border <= 0.4:
        raise UserError(f"options.border is the share of the side that is background, above 0 to 0.4, not {border}")
    colours = keras.Input((image_size, image_size, 3), name="preprocessed")
    halved = layers.AveragePooling2D(2, dtype="float32", name="halved")
    unlike_border = ForegroundMap(border, name="foreground")(halved(colours))
    smooth = layers.AveragePooling2D(3, strides=1, padding="same", dtype="float32", name="smooth")(unlike_border)
    parts = [
        layers.Rescaling(_GRADIENT_GAIN)(layers.Flatten()(OrientedGradients(cell, name="gradients")(colours))),
        layers.Rescaling(_GRADIENT_GAIN)(layers.Flatten()(OrientedGradients(map_cell, name="outline")(smooth))),
        layers.Rescaling(_MAP_GAIN)(layers.Flatten()(layers.AveragePooling2D(4, name="silhouette")(unlike_border))),
    ]
    x = layers.Concatenate(name="descriptors")(parts)
    if dropout:
        x = layers.Dropout(dropout, name="descriptor_dropout")(x)
    return keras.Model(colours, layers.Reshape((1, 1, x.shape[-1]), name="map")(x), name="descriptors")


ARCHITECTURES = {
    "descriptors": Architecture(
        _body,
        _colours,
        {"cell": 16, "map_cell": 8, "border": 0.0625, "dropout": 0.3, "batch_norm_momentum": None},
        published=False,
    )
}
