"""Losses over pixels: cross-entropy, Dice, focal, and their weighted sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from labelstack.networks.tasks import Loss
from labelstack.params.segmenters import PixelLossSection

LEAST_WEIGHT, LARGEST_WEIGHT = 0.1, 10.0
_SMALL = 1e-6


def pixel_loss(section: PixelLossSection, weights: NDArray[np.float32] | None = None) -> Loss:
    """The function (classes int32 [b, h, w], logits float32 [b, h, w, classes], known: None) → loss of each photo [b].

    Cross-entropy and focal loss are means over the pixels that are not ``ignored``, 0 of a photo without such: with
    weights each pixel counts by its class, and the sum is still divided by the number of pixels.

    Parameters
    ----------
    weights : float32 [classes] or None
    """

    def loss(truth: Any, logits: Any, known: Any) -> Any:
        counted = tf.ones_like(logits[..., 0])
        if section.ignored is not None:
            ignored = truth == section.ignored
            counted, truth = tf.where(ignored, 0.0, 1.0), tf.where(ignored, 0, truth)
        pixels = tf.reduce_sum(counted, axis=(1, 2))
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
        factor = counted if weights is None else counted * tf.gather(tf.constant(weights), truth)
        total = tf.zeros_like(pixels)
        if section.cross_entropy:
            total += section.cross_entropy * tf.reduce_sum(factor * entropy, axis=(1, 2))
        if section.focal:  # Lin et al. 2017; exp(−entropy) is the probability of the true class
            easy = tf.maximum(1 - tf.exp(-entropy), _SMALL)
            total += section.focal * tf.reduce_sum(factor * easy**section.gamma * entropy, axis=(1, 2))
        total = tf.math.divide_no_nan(total, pixels)
        if section.dice:
            total += section.dice * dice(truth, logits, counted)
        return total

    return loss


def dice(truth: Any, logits: Any, counted: Any) -> Any:
    """1 − 2Σyp / (Σy + Σp), the mean over the classes that occur in a photo (Milletari et al. 2016, sums not squared).

    Parameters
    ----------
    truth : int32 [b, h, w]
    logits : float32 [b, h, w, classes]
    counted : float32 [b, h, w], 1 of pixels that count, else 0

    Returns
    -------
    float32 [b], 0 of a photo in which no pixel counts
    """
    probability = tf.nn.softmax(logits) * counted[..., None]
    wanted = tf.one_hot(truth, logits.shape[-1], dtype=logits.dtype) * counted[..., None]
    both, given, there = (tf.reduce_sum(x, axis=(1, 2)) for x in (wanted * probability, probability, wanted))
    occurs = tf.cast(there > 0, logits.dtype)
    apart = 1 - 2 * both / (given + there + _SMALL)
    return tf.math.divide_no_nan(tf.reduce_sum(occurs * apart, axis=-1), tf.reduce_sum(occurs, axis=-1))


def balanced_weights(pixels: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Weights of classes by how rare they are: the root of the median frequency over their own, 0.1 … 10.

    Median frequency balancing (Eigen & Fergus 2015) without a root makes the background, most of a photo, next to
    nothing. The mean over all pixels is 1, so that losses keep their scale.

    Parameters
    ----------
    pixels : int [classes]
        Of the training photos. A class without pixels has the weight of the median.

    Returns
    -------
    float32 [classes]
    """
    pixels = np.asarray(pixels, np.float64)
    if not pixels.any():
        raise ValueError("there are no pixels to weigh classes by")
    median = np.median(pixels[pixels > 0])
    raw = np.clip(np.sqrt(median / np.where(pixels > 0, pixels, median)), LEAST_WEIGHT, LARGEST_WEIGHT)
    return (raw * pixels.sum() / (raw * pixels).sum()).astype(np.float32)
