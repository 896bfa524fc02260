"""Focal loss: what is answered well counts less."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from labelstack.networks.losses.known import mean_of_known

GAMMA = 2.0
_LEAST = 1e-6  # below a power of 1 the gradient is infinite at 0


def focal(
    targets: Any, logits: Any, known: Any, frequency: Any, *, gamma: float = GAMMA, alpha: float | None = None
) -> Any:
    """Cross-entropy times |y − p|^gamma, the mean over known labels; see ``tasks.LossFunction``.

    Lin et al. 2017 in the form of Li et al. 2020 (quality focal loss), which soft targets need:
    ``keras.losses.BinaryFocalCrossentropy`` is the same for targets 0 and 1, but its factor y(1 − p) + (1 − y)p is not
    0 where p is y, and it works on clipped probabilities, which have no gradient at logits beyond 16.

    Parameters
    ----------
    gamma : 0: plain cross-entropy
    alpha : weight of positives, 1 − alpha of negatives (Lin et al. 2017); None: none
    """
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    distance = tf.abs(targets - tf.sigmoid(logits))
    if gamma < 1:
        distance = tf.maximum(distance, _LEAST)
    values = cross_entropy * distance**gamma
    if alpha is not None:
        values *= alpha * targets + (1 - alpha) * (1 - targets)
    return mean_of_known(values, known)
