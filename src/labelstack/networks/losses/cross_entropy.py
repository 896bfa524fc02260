"""Cross-entropy of labels that exclude each other."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from labelstack.networks.losses.known import knows_any

_IMPOSSIBLE = -1e9


def cross_entropy(targets: Any, logits: Any, known: Any, frequency: Any) -> Any:
    """Keras's categorical cross-entropy on logits; see ``tasks.LossFunction``.

    Labels that a row does not know are left out of its softmax: what is learnt is which of the known ones it is.
    """
    if known is None:
        return keras.losses.categorical_crossentropy(targets, logits, from_logits=True)
    possible = tf.where(known > 0, logits, _IMPOSSIBLE)
    # Not TensorFlow's own, whose gradient takes it that targets sum to 1: soft ones need not.
    return knows_any(known) * -tf.reduce_sum(targets * known * tf.nn.log_softmax(possible), axis=-1)
