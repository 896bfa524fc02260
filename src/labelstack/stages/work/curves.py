"""Scores over one threshold for all labels, by the metric in params.yaml."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.scoring.metric import metric_of
from labelstack.scoring.threshold_curve import ThresholdCurve


def threshold_curve(params: Params, Y: NDArray[np.bool_], P: NDArray[np.float32]) -> ThresholdCurve:
    """Scores of probabilities P [n, n_labels] over one threshold for all labels, in-sample."""
    return ThresholdCurve.compute(metric_of(params.metric), Y, P, fixed=params.thresholds.fixed)
