"""What a row knows of its labels: means over known labels alone."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def mean_of_known(values: Any, known: Any) -> Any:
    """Mean of each row over its known labels, float32 [n]; 0 of a row that knows none.

    Parameters
    ----------
    values : float32 tensor [n, outputs]
    known : float32 tensor [n, outputs], 1 where the label is known, else 0; None: all are
    """
    if known is None:
        return tf.reduce_mean(values, axis=-1)
    return tf.math.divide_no_nan(tf.reduce_sum(values * known, axis=-1), tf.reduce_sum(known, axis=-1))


def knows_any(known: Any) -> Any:
    """1 for a row that knows a label, else 0, float32 [n]."""
    return tf.reduce_max(known, axis=-1)
