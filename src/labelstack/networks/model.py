"""A base model: uint8 image in, the answer to its task out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from labelstack.networks.backbones import build_backbone
from labelstack.networks.heads import add_head
from labelstack.networks.tasks import Task
from labelstack.params.models import ModelSection


def build_model(params: ModelSection, task: Task, *, mixed_precision: bool | str = False) -> keras.Model:
    """Backbone and head as one Keras model.

    Parameters
    ----------
    params : ModelSection
        Backbone, weights, image size S, options and head.
    task : Task
        What the head answers.
    mixed_precision : bool or ``bfloat16``
        Compute in float16, or bfloat16, with float32 weights; input preprocessing and output stay float32.

    Returns
    -------
    keras.Model
        uint8 [b, S, S, 3] RGB, or with a mask [b, S, S, 4] → float32 [b, task.outputs]; holds a layer (a model) named
        ``backbone``.

    Raises
    ------
    UserError
        Options or weights that the backbone does not take.
    """
    low = "float16" if mixed_precision is True else mixed_precision
    with _policy(f"mixed_{low}" if low else "float32"):
        channels = params.region_view.channels
        backbone = build_backbone(params.backbone, params.image_size, params.weights, params.options, channels)
        image = keras.Input((params.image_size, params.image_size, channels), dtype="uint8", name="image")
        model = keras.Model(image, add_head(backbone(image), params.head, task), name="base_model")
    if task.first_bias is not None:
        model.get_layer("logits").bias.assign(task.first_bias)
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
