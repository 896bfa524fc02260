"""A small VGG-like network (Simonyan & Zisserman 2015, with batch normalization) for small images and CPUs."""

from __future__ import annotations

import keras
from keras import layers

from labelstack.networks.backbones.architecture import Architecture, plus_minus_one
from labelstack.support.errors import UserError


def _body(
    image_size: int, weights: str | None, *, filters: list[int], convolutions: int, dropout: float
) -> keras.Model:
    if not 1 <= convolutions <= 16 or image_size >> len(filters) < 1:
        raise UserError(
            f"small_cnn: every entry of filters halves the image, so at {image_size} px at most "
            f"{image_size.bit_length() - 1} fit, not {len(filters)}; convolutions must be 1…16, not {convolutions}"
        )
    x = image = keras.Input((image_size, image_size, 3), name="preprocessed")
    for block, width in enumerate(filters, start=1):
        for number in range(1, convolutions + 1):
            name = f"block_{block}_conv_{number}"
            x = layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(x)
            x = layers.BatchNormalization(name=f"{name}_bn")(x)
            x = layers.Activation("relu", name=f"{name}_relu")(x)
        x = layers.MaxPooling2D(name=f"block_{block}_pool")(x)
        if dropout:
            x = layers.SpatialDropout2D(dropout, name=f"block_{block}_dropout")(x)
    return keras.Model(image, x, name="small_cnn")


ARCHITECTURES = {
    "small_cnn": Architecture(
        _body,
        plus_minus_one,
        {"filters": [32, 64, 128, 256], "convolutions": 2, "dropout": 0.0, "batch_norm_momentum": 0.9},
        published=False,
    )
}
