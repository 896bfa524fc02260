"""What was cross-fitted, on disk: label sets and, where the metric wants those, probabilities beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelstack.predictions import read_predictions, write_predictions
from labelstack.scoring.metric import Metric

if TYPE_CHECKING:
    from labelstack.stacking.crossfit import CrossFitted


def save_cross_fitted(path: Path, image_id: NDArray[np.int64], fitted: CrossFitted, metric: Metric) -> None:
    """Write cross-fitted label sets and, beside them, the probabilities or counts where the metric wants those."""
    write_predictions(path, image_id, fitted.labels.astype(np.float32))
    if metric.wants == "label_sets":
        _probability_file(path).unlink(missing_ok=True)  # of another metric
    else:
        write_predictions(_probability_file(path), image_id, fitted.given(metric), unknown=True)


def cross_fitted_file(path: Path, metric: Metric) -> Path:
    """The file that holds what a metric wants of what ``save_cross_fitted`` wrote to ``path``."""
    return path if metric.wants == "label_sets" else _probability_file(path)


def read_cross_fitted(path: Path, image_id: NDArray[np.int64], metric: Metric) -> NDArray[Any]:
    """What a metric wants of what ``save_cross_fitted`` wrote: bool, float32 [n, n_labels], or counts [n, c]."""
    values = read_predictions(cross_fitted_file(path, metric)).rows_of(image_id)
    return values > 0 if metric.wants == "label_sets" else values


def _probability_file(label_sets: Path) -> Path:
    return label_sets.with_name(f"{label_sets.stem}_probability.npz")
