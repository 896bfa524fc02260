"""Binary cross-entropy that weighs the positives of rare labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from labelstack.networks.losses.known import mean_of_known

LARGEST_POSITIVE_WEIGHT = 10.0


def balanced_bce(targets: Any, logits: Any, known: Any, frequency: Any) -> Any:
    """Cross-entropy with ``positive_weights(frequency)``, the mean over known labels; see ``tasks.LossFunction``.

    Raises ``ValueError`` without frequencies.
    """
    if frequency is None:
        raise ValueError("balanced_bce needs the label frequencies of the training images")
    weights = tf.constant(positive_weights(frequency))
    return mean_of_known(tf.nn.weighted_cross_entropy_with_logits(targets, logits, weights), known)


def positive_weights(frequency: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Weight of a label's positives: sqrt(negatives / positives), at least 1 and at most 10.

    The square root and the cap keep rare labels (and labels never seen in training) from drowning the others.

    Parameters
    ----------
    frequency : float [n_labels]
        Share of the training images that carry each label, 0…1.
    """
    frequency = np.asarray(frequency, dtype=np.float64)
    if ((frequency < 0) | (frequency > 1)).any():
        raise ValueError("label frequencies must lie between 0 and 1")
    with np.errstate(divide="ignore"):
        ratio = np.sqrt((1 - frequency) / frequency)
    return np.clip(ratio, 1, LARGEST_POSITIVE_WEIGHT).astype(np.float32)
