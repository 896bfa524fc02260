"""Pooling and dense layers between a feature map and the answer."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from labelstack.networks.tasks import Task
from labelstack.params.models import HeadSection

_POOLING = {
    "max": layers.GlobalMaxPooling2D,
    "average": layers.GlobalAveragePooling2D,
    "flatten": layers.Flatten,
}


def add_head(features: Any, head: HeadSection, task: Task) -> Any:
    """Pooling → (Dense relu → Dropout) for each of ``head.units`` → Dense(task.outputs) → the task's activation.

    Without hidden units one dropout follows the pooling. Logits and answers are always float32.

    Parameters
    ----------
    features : keras tensor [b, h, w, c]
    head : HeadSection
    task : Task

    Returns
    -------
    keras tensor [b, task.outputs], of the layer named ``probability``, which follows the one named ``logits``
    """
    x = _POOLING[head.pooling](name="pooling")(features)
    if not head.units and head.dropout:
        x = layers.Dropout(head.dropout, name="dropout_1")(x)
    for number, units in enumerate(head.units, start=1):
        x = layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
        if head.dropout:
            x = layers.Dropout(head.dropout, name=f"dropout_{number}")(x)
    logits = layers.Dense(task.outputs, dtype="float32", name="logits")(x)
    return layers.Activation(task.activation, dtype="float32", name="probability")(logits)


def logits_model(model: keras.Model) -> keras.Model:
    """The same network (shared variables) ending before the activation: losses on logits do not saturate."""
    return keras.Model(model.inputs, model.get_layer("logits").output, name="logits_of_" + model.name)


def pooled_model(model: keras.Model) -> keras.Model:
    """The same network (shared variables) ending with the head's pooling: what the other layers of the head take."""
    return keras.Model(model.inputs, model.get_layer("pooling").output, name="pooled_of_" + model.name)


def head_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Layers of a head between pooling and answer, in order; the last gives logits."""
    names = [layer.name for layer in model.layers]
    return list(model.layers[names.index("pooling") + 1 : names.index("logits") + 1])
