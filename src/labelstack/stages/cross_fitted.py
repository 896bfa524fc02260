"""What was cross-fitted, on disk: label sets and, where the metric wants those, probabilities beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelstack.predictions import read_predictions, write_values
from labelstack.scoring.metric import Metric

if TYPE_CHECKING:
    from labelstack.stacking.crossfit import CrossFitted


def save_cross_fitted(
    path: Path,
    image_id: NDArray[np.int64],
    fitted: CrossFitted,
    metric: Metric,
    shown: NDArray[np.bool_] | None = None,
) -> None:
    """Write cross-fitted label sets and, beside them, the probabilities or counts where the metric wants those.

    Parameters
    ----------
    image_id : int64 [n]
    shown : bool [n], the rows that ``fitted`` is of; the others get no label, and NaN. None: all
    """
    write_values(path, image_id, _of_all(fitted.labels, shown, 0))
    if metric.wants == "label_sets":
        _probability_file(path).unlink(missing_ok=True)  # of another metric
    else:
        write_values(_probability_file(path), image_id, _of_all(fitted.given(metric), shown, np.nan))


def _of_all(values: NDArray[Any], shown: NDArray[np.bool_] | None, other: float) -> NDArray[Any]:
    if shown is None:
        return values
    found = np.full((len(shown), values.shape[1]), other, values.dtype)
    found[shown] = values
    return found


def cross_fitted_file(path: Path, metric: Metric) -> Path:
    """The file that holds what a metric wants of what ``save_cross_fitted`` wrote to ``path``."""
    return path if metric.wants == "label_sets" else _probability_file(path)


def read_cross_fitted(path: Path, image_id: NDArray[np.int64], metric: Metric) -> NDArray[Any]:
    """What a metric wants of what ``save_cross_fitted`` wrote: bool, float32 [n, n_labels], or counts [n, c]."""
    values = read_predictions(cross_fitted_file(path, metric)).rows_of(image_id)
    return values > 0 if metric.wants == "label_sets" else values


def _probability_file(label_sets: Path) -> Path:
    return label_sets.with_name(f"{label_sets.stem}_probability.npy")
