"""A base model: uint8 image in, probability of every label out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from labelstack.networks.backbones import build_backbone
from labelstack.networks.heads import add_head
from labelstack.params.models import ModelSection

# A label that no training image carries, or that all carry, still gets a finite bias.
_RAREST = 1e-4


def build_model(
    params: ModelSection,
    n_labels: int,
    *,
    prior: NDArray[np.floating[Any]] | None = None,
    mixed_precision: bool = False,
) -> keras.Model:
    """Backbone and head as one Keras model.

    Parameters
    ----------
    params : ModelSection
        Backbone, weights, image size S, options and head.
    n_labels : int
    prior : float [n_labels], optional
        Share of training images with each label; its logit becomes the last layer's bias, so that training starts from
        the label frequencies instead of 0.5.
    mixed_precision : bool
        Compute in float16 with float32 weights; input preprocessing and output stay float32.

    Returns
    -------
    keras.Model
        uint8 [b, S, S, 3] RGB → float32 [b, n_labels]; holds a layer (a model) named ``backbone``.

    Raises
    ------
    UserError
        Options or weights that the backbone does not take.
    """
    with _policy("mixed_float16" if mixed_precision else "float32"):
        backbone = build_backbone(params.backbone, params.image_size, params.weights, params.options)
        image = keras.Input((params.image_size, params.image_size, 3), dtype="uint8", name="image")
        _, probability = add_head(backbone(image), params.head, n_labels)
        model = keras.Model(image, probability, name="base_model")
    if prior is not None:
        share = np.clip(np.asarray(prior, dtype=np.float64), _RAREST, 1 - _RAREST)
        model.get_layer("logits").bias.assign(np.log(share / (1 - share)).astype(np.float32))
    return model


@contextmanager
def _policy(name: str) -> Iterator[None]:
    """Keras takes the precision of new layers from a global; give the global back."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
