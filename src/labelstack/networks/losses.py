"""Multi-label losses on logits; targets may be soft (mixup, label smoothing)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Loss = Callable[[Any, Any], Any]

FOCAL_GAMMA = 2.0
LARGEST_POSITIVE_WEIGHT = 10.0


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


def make_loss(name: str, *, label_smoothing: float = 0, frequency: NDArray[np.floating[Any]] | None = None) -> Loss:
    """A function (targets [n, n_labels], logits [n, n_labels]) → float32 loss of each image [n], the mean over labels.

    Parameters
    ----------
    name : {"bce", "balanced_bce", "focal"}
        ``balanced_bce`` weighs positives by ``positive_weights(frequency)``. ``focal`` is Lin et al. 2017 (gamma 2,
        no alpha) in the form of Li et al. 2020 (quality focal loss), which also takes soft targets.
    label_smoothing : float
        Targets become y·(1 − s) + s/2.
    frequency : float [n_labels], optional
        Label frequencies; ``balanced_bce`` needs them.
    """
    if name == "balanced_bce":
        if frequency is None:
            raise ValueError("balanced_bce needs the label frequencies of the training images")
        weights = tf.constant(positive_weights(frequency))
    elif name not in {"bce", "focal"}:
        raise ValueError(f"unknown loss {name!r} (known: bce, balanced_bce, focal)")

    def loss(targets: Any, logits: Any) -> Any:
        logits = tf.cast(logits, tf.float32)
        targets = tf.cast(targets, tf.float32) * (1 - label_smoothing) + label_smoothing / 2
        if name == "balanced_bce":
            per_label = tf.nn.weighted_cross_entropy_with_logits(targets, logits, weights)
        else:
            per_label = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
        if name == "focal":
            per_label *= tf.abs(targets - tf.sigmoid(logits)) ** FOCAL_GAMMA
        return tf.reduce_mean(per_label, axis=-1)

    return loss
