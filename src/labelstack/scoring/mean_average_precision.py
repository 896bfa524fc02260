"""Mean average precision: how well each label ranks the images, whatever threshold there may be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params.metric import MetricSection
from labelstack.scoring.f_resampling import Resampled
from labelstack.scoring.metric import Answers, Floats, Metric


def average_precision(Y: Answers, score: NDArray[Any]) -> Floats:
    """Average precision of each label: Σ (Rₙ − Rₙ₋₁) Pₙ over distinct scores, scikit-learn's definition.

    Parameters
    ----------
    Y : bool [n, n_labels]
    score : float [n, n_labels], higher means more likely

    Returns
    -------
    float64 [n_labels], NaN for a label without positives
    """
    return _resampled(Y, score, np.ones((1, len(Y)), np.float32))[0]


class MeanAveragePrecision(Metric):
    """Mean of the labels' average precisions, those without a positive left out; 0 where no label has one.

    A resample repeats images and may lose a rare label, and both make its score higher: with few positives a label, the
    interval lies high, even above the score.
    """

    wants = "rankings"

    def __init__(self, section: MetricSection) -> None:
        super().__init__(section)
        self.name = self.short = "mAP"

    def score(self, Y: Answers, given: NDArray[Any]) -> float:
        """The mean over labels."""
        return float(_mean(average_precision(Y, given)))

    def per_label(self, Y: Answers, given: NDArray[Any]) -> Floats:
        """Average precision of each label."""
        return np.nan_to_num(average_precision(Y, given), nan=0.0)

    def resampled(self, Y: Answers, given: NDArray[Any]) -> Resampled:
        """All resamples of a chunk at once, label by label."""
        return lambda weights: _mean(_resampled(Y, given, weights))

    def resampled_per_label(self, Y: Answers, given: NDArray[Any]) -> Resampled:
        """All resamples of a chunk at once, label by label."""
        return lambda weights: np.nan_to_num(_resampled(Y, given, weights), nan=0.0)


def _mean(precisions: Floats) -> Any:
    """Over the last axis, NaN left out; 0 where all are."""
    known = ~np.isnan(precisions)
    return np.where(known, precisions, 0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)


def _resampled(Y: Answers, score: NDArray[Any], weights: NDArray[np.float32]) -> Floats:
    """Average precision of each label in each resample, [draws, n_labels]; NaN where a resample has no positive."""
    found = np.full((len(weights), Y.shape[1]), np.nan)
    for label in np.flatnonzero(Y.any(axis=0)):
        order = np.argsort(-score[:, label], kind="stable")
        ranked, true = score[order, label], Y[order, label]
        last = np.append(ranked[1:] != ranked[:-1], True)  # of each distinct score
        group = np.cumsum(last) - last
        # precision counts only where there is a positive: sums from one such score to the next
        ends = np.flatnonzero(last)[np.unique(group[true])]
        starts = np.append(0, ends[:-1] + 1)
        seen = weights[:, order[: ends[-1] + 1]]
        ranks = np.cumsum(np.add.reduceat(seen, starts, axis=1), axis=1, dtype=np.float64)
        hits = np.add.reduceat(seen * true[: ends[-1] + 1], starts, axis=1).astype(np.float64)
        precision = np.divide(np.cumsum(hits, axis=1), ranks, out=np.zeros_like(ranks), where=ranks > 0)
        positives = hits.sum(axis=1)
        found[:, label] = np.divide(
            (hits * precision).sum(axis=1), positives, out=np.full(len(weights), np.nan), where=positives > 0
        )
    return found
