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
    return knows_any(known) * tf.nn.softmax_cross_entropy_with_logits(targets * known, possible)
