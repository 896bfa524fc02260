"""F-beta of probabilities as a loss."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from labelstack.networks.losses.known import knows_any

_LEAST = 1e-6  # in the denominator, as in published solutions of iMet 2019


def f_beta(targets: Any, logits: Any, known: Any, frequency: Any, *, beta: float = 1.0) -> Any:
    """1 − (1 + β²) Σyp / (β² Σy + Σp), sums over a row's known labels; see ``tasks.LossFunction``.

    It is F-beta of each row with probabilities in the place of decisions. A row without a label costs 1 and teaches
    nothing.
    """
    probability = tf.sigmoid(logits)
    if known is not None:
        targets, probability = targets * known, probability * known
    found, given, wanted = (tf.reduce_sum(x, axis=-1) for x in (targets * probability, probability, targets))
    loss = 1 - (1 + beta**2) * found / (beta**2 * wanted + given + _LEAST)
    return loss if known is None else knows_any(known) * loss
