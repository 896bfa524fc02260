"""Binary cross-entropy that forgives negatives: a label may be true that nobody has given."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from labelstack.networks.losses.known import mean_of_known


def forgiving(targets: Any, logits: Any, known: Any, frequency: Any, *, weight: float = 1.0) -> Any:
    """Cross-entropy of (x, y) plus ``weight`` times that of (xy, y), the mean over known labels.

    As published for iMet 2019 (artyompal). With targets of 0 and 1, positives weigh 1 + weight, and every negative adds
    the constant weight · ln 2, which has no gradient. See ``tasks.LossFunction``.
    """
    plain = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    of_positives = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits * targets)
    return mean_of_known(plain + weight * of_positives, known)
