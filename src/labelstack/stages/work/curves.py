"""F-scores over one threshold for all labels, by the metric in params.yaml."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.scoring import metrics
from labelstack.scoring.threshold_curve import ThresholdCurve


def threshold_curve(params: Params, Y: NDArray[np.bool_], P: NDArray[np.float32]) -> ThresholdCurve:
    """F-scores of probabilities P [n, n_labels] over one threshold for all labels, in-sample."""
    return ThresholdCurve.compute(
        lambda predicted, average: metrics.f_beta(Y, predicted, average=average, beta=params.metric.beta),
        P,
        fixed=params.thresholds.fixed,
        primary=params.metric.primary,
    )
