"""EfficientNet-B0 (Tan & Le 2019)."""

from __future__ import annotations

import math

import keras
from keras import applications, layers

from labelstack.networks.backbones.architecture import IMAGENET_MEAN, IMAGENET_STD, Architecture


def _body(image_size: int, weights: str | None) -> keras.Model:
    shape = (image_size, image_size, 3)
    body = applications.EfficientNetB0(include_top=False, weights=None, input_shape=shape)
    if weights is not None:
        published = applications.EfficientNetB0(include_top=False, weights=weights, input_shape=shape)
        body.set_weights(published.get_weights())
    return body


def _preprocessing() -> layers.Layer:
    # The network holds x/255 and (x − mean)/sqrt(std). For the published weights keras.applications adds a second
    # 1/sqrt(std) behind them, and leaves it out otherwise, so that weights of one would not fit the other. Ours always
    # has that factor, moved to the front: x ↦ 255·((x/255 − mean)/sqrt(std) + mean).
    scale = [1 / math.sqrt(std) for std in IMAGENET_STD]
    offset = [255 * (mean - mean / math.sqrt(std)) for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    return layers.Rescaling(scale, offset=offset, dtype="float32", name="preprocessing")


ARCHITECTURES = {"efficientnet_b0": Architecture(_body, _preprocessing)}
