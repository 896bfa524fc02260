"""Focal loss: what is answered well counts less."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

GAMMA = 2.0


def focal(targets: Any, logits: Any, known: Any, frequency: Any) -> Any:
    """Cross-entropy times |y − p|², the mean over labels; see ``tasks.LossFunction``.

    Lin et al. 2017 (gamma 2, no alpha) in the form of Li et al. 2020 (quality focal loss), which soft targets need:
    ``keras.losses.BinaryFocalCrossentropy`` is the same for targets 0 and 1, but its factor y(1 − p) + (1 − y)p is not
    0 where p is y, and it works on clipped probabilities, which have no gradient at logits beyond 16.
    """
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    return tf.reduce_mean(cross_entropy * tf.abs(targets - tf.sigmoid(logits)) ** GAMMA, axis=-1)
