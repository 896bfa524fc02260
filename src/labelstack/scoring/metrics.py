"""F-beta (samples, micro, macro) of multi-label answers, and counts of each label; plain NumPy."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Average = Literal["samples", "micro", "macro"]
AVERAGES: tuple[Average, ...] = ("samples", "micro", "macro")


def f_beta(y_true: ArrayLike, y_pred: ArrayLike, *, average: Average, beta: float = 1.0) -> float:
    """F-beta score, equal to scikit-learn's ``fbeta_score(…, zero_division=0)``.

    Parameters
    ----------
    y_true, y_pred : 0/1 or bool [n, n_labels]
    average : ``samples`` (mean over images), ``micro`` (all answers pooled) or ``macro`` (mean over labels)
    beta : weight of recall against precision, above 0

    Raises
    ------
    ValueError
        On other values, shapes that differ, no rows, no labels, or an unknown average.
    """
    hits, true, predicted = _counts(y_true, y_pred, average)
    return float(np.mean(f_of_counts(hits, true, predicted, beta)))


def f_beta_per_image(y_true: ArrayLike, y_pred: ArrayLike, *, beta: float = 1.0) -> NDArray[np.float64]:
    """F-beta of each image, float64 [n]; their mean is the ``samples`` average."""
    return f_of_counts(*_counts(y_true, y_pred, "samples"), beta)


def per_label(y_true: ArrayLike, y_pred: ArrayLike, beta: float = 1.0) -> dict[str, NDArray[np.float64]]:
    """Scores and counts of each label.

    Returns
    -------
    dict of float64 [n_labels]
        ``precision``, ``recall``, ``f<beta>`` (``f1`` by default), ``support`` (images that have the label) and
        ``predicted`` (images that are given it)
    """
    hits, true, predicted = _counts(y_true, y_pred, "macro")
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, true),
        f"f{beta:g}": f_of_counts(hits, true, predicted, beta),
        "support": true,
        "predicted": predicted,
    }


def most_probable(P: ArrayLike) -> NDArray[np.bool_]:
    """The label with the largest probability of each row, the first of equal ones: bool [n, n_labels], one true a row.

    Of such answers, where rows have one true label each, the F-scores of ``samples`` and ``micro`` are the accuracy.
    """
    probability = np.asarray(P)
    given = np.zeros(probability.shape, bool)
    given[np.arange(len(given)), probability.argmax(axis=1)] = True
    return given


def as_binary(y: ArrayLike, name: str) -> NDArray[np.bool_]:
    """``y`` as bool [n, n_labels]; raise ``ValueError`` naming the argument when it is anything else."""
    values = np.asarray(y)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"{name} must be [n, n_labels] with at least one of each, not {list(values.shape)}")
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind not in "iuf" or not ((values == 0) | (values == 1)).all():
        raise ValueError(f"{name} must hold only 0 and 1 (or bool)")
    return values.astype(np.bool_)


def f_of_counts(
    hits: NDArray[np.float64], true: NDArray[np.float64], predicted: NDArray[np.float64], beta: float
) -> NDArray[np.float64]:
    """F-beta from counts of right, true and predicted labels, elementwise; 0 for 0/0."""
    if not beta > 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    return _ratio((1 + beta**2) * hits, beta**2 * true + predicted)


def _counts(
    y_true: ArrayLike, y_pred: ArrayLike, average: Average
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Right, true and predicted labels per image, per label, or in all (one element)."""
    if average not in AVERAGES:
        raise ValueError(f"average must be one of {', '.join(AVERAGES)}, not {average!r}")
    true, predicted = as_binary(y_true, "y_true"), as_binary(y_pred, "y_pred")
    if true.shape != predicted.shape:
        raise ValueError(f"y_pred has shape {predicted.shape}, y_true has {true.shape}: they must be equal")
    axis = {"samples": 1, "macro": 0, "micro": None}[average]
    hits, n_true, n_predicted = (np.atleast_1d(a.sum(axis=axis)) for a in (true & predicted, true, predicted))
    return hits.astype(np.float64), n_true.astype(np.float64), n_predicted.astype(np.float64)


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
