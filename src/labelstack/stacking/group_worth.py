"""What calibration and weights add to a blend within label groups, cross-fitted: the blend against simpler ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring import bootstrap
from labelstack.scoring.attribute_metric import AttributeMetric
from labelstack.stacking.crossfit import CrossFitted, fit_blend
from labelstack.stacking.fold_predictions import FoldPredictions

_MEAN, _UNCALIBRATED = "plain_mean", "uncalibrated"


def group_worth(
    members: Mapping[str, FoldPredictions | ArrayLike],
    fitted: CrossFitted,
    Y: ArrayLike,
    folds: ArrayLike,
    settings: BlendSection,
    thresholds: ThresholdsSection,
) -> dict[str, float]:
    """Scores of simpler blends of the same members, and what the blend gains on them.

    Parameters
    ----------
    members, Y, folds : as of ``crossfit.fit_blend``
    fitted : what it found of rows that know one label group each
    settings : by which it was found

    Returns
    -------
    ``log_loss_cross_fitted``, and for ``plain_mean`` and, where members were calibrated, ``uncalibrated``:
    ``<name>_log_loss``, ``<name>_attribute_map``, and the blend's paired gain in mAP ``<name>_gain``, ``_gain_low``,
    ``_gain_high`` (95 %, bootstrap over images within groups)
    """
    others = {_MEAN: BlendSection(method="equal", calibration="none")}
    if settings.calibration != "none":
        others[_UNCALIBRATED] = settings.model_copy(update={"calibration": "none"})
    metric = MetricSection(primary="attribute_map")
    judge = AttributeMetric(metric)
    found = {"log_loss_cross_fitted": log_loss(fitted.answers, fitted.probability)}
    for name, simpler in others.items():
        by: dict[str, Any] = {"blend_params": simpler, "metric": metric, "thresholds": thresholds}
        other = fit_blend(members, Y, folds, asked=fitted.asked, **by).cross_fitted
        gain = bootstrap.paired(judge, fitted.answers, fitted.given(judge), other.given(judge))
        found |= {
            f"{name}_log_loss": log_loss(fitted.answers, other.probability),
            f"{name}_attribute_map": judge.score(fitted.answers, other.given(judge)),
            f"{name}_gain": gain.score,
            f"{name}_gain_low": gain.low,
            f"{name}_gain_high": gain.high,
        }
    return found


def log_loss(answers: NDArray[np.bool_], P: NDArray[np.float32]) -> float:
    """Mean of −ln of the true label's probability [n, n_labels], kept 1e-6 from 0."""
    return float(-np.log(np.maximum(P[answers].astype(np.float64), 1e-6)).mean())
