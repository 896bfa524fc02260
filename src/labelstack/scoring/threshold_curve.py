"""Scores over one threshold for all labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.scoring.metric import Answers, Metric, family_name


@dataclass(frozen=True)
class ThresholdCurve:
    """Scores of label sets when one threshold serves all labels.

    Parameters
    ----------
    threshold : float [n]
        The grid.
    scores : mapping of str to float [n]
        The in-sample score at each point of the grid, by a metric's ``short`` name.
    name : str
        What these are: ``F1``.
    chosen : float, optional
        The threshold that was chosen, or the best one of the grid when every label has its own.
    fixed : float
        The untuned threshold that the leaderboard compares with.
    """

    threshold: NDArray[np.floating]
    scores: Mapping[str, NDArray[np.floating]]
    name: str = "F1"
    chosen: float | None = None
    fixed: float = 0.3

    @classmethod
    def of(
        cls,
        metric: Metric,
        threshold: NDArray[np.floating],
        scores: Mapping[str, NDArray[np.floating]],
        fixed: float = 0.3,
    ) -> ThresholdCurve:
        """A table of scores by the metric that decides label sets and its family; the best by that metric is chosen."""
        judge = metric.decides
        best = float(threshold[np.argmax(scores[judge.short])])
        return cls(threshold, scores, family_name(judge), best, fixed)

    @classmethod
    def compute(
        cls, metric: Metric, Y: Answers, probability: ArrayLike, *, grid: ArrayLike | None = None, fixed: float = 0.3
    ) -> ThresholdCurve:
        """Score ``probability`` [n, n_labels] at every threshold of ``grid`` against the answers Y [n, n_labels]."""
        probability = np.asarray(probability)
        points = np.linspace(0.02, 0.98, 49) if grid is None else np.asarray(grid, dtype=np.float64)
        table = {
            each.short: np.array([each.score(Y, probability >= point) for point in points])
            for each in metric.decides.family
        }
        return cls.of(metric, points, table, fixed)
