"""Binary cross-entropy."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from labelstack.networks.losses.known import mean_of_known


def bce(targets: Any, logits: Any, known: Any, frequency: Any) -> Any:
    """Keras's binary cross-entropy on logits, the mean over known labels; see ``tasks.LossFunction``."""
    if known is None:
        return keras.losses.binary_crossentropy(targets, logits, from_logits=True)
    return mean_of_known(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), known)
