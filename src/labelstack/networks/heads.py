"""Pooling and dense layers between a feature map and the labels."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from labelstack.params.models import HeadSection

_POOLING = {
    "max": layers.GlobalMaxPooling2D,
    "average": layers.GlobalAveragePooling2D,
    "flatten": layers.Flatten,
}


def add_head(features: Any, head: HeadSection, n_labels: int) -> tuple[Any, Any]:
    """Pooling → (Dense relu → Dropout) for each of ``head.units`` → Dense(n_labels) → sigmoid.

    Without hidden units one dropout follows the pooling. Logits and probabilities are always float32.

    Parameters
    ----------
    features : keras tensor [b, h, w, c]
    head : HeadSection
    n_labels : int

    Returns
    -------
    logits, probability : keras tensors [b, n_labels], of the layers named ``logits`` and ``probability``
    """
    x = _POOLING[head.pooling](name="pooling")(features)
    if not head.units and head.dropout:
        x = layers.Dropout(head.dropout, name="dropout_1")(x)
    for number, units in enumerate(head.units, start=1):
        x = layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
        if head.dropout:
            x = layers.Dropout(head.dropout, name=f"dropout_{number}")(x)
    logits = layers.Dense(n_labels, dtype="float32", name="logits")(x)
    return logits, layers.Activation("sigmoid", dtype="float32", name="probability")(logits)


def logits_model(model: keras.Model) -> keras.Model:
    """The same network (shared variables) ending before the sigmoid: losses on logits do not saturate."""
    return keras.Model(model.inputs, model.get_layer("logits").output, name="logits_of_" + model.name)
