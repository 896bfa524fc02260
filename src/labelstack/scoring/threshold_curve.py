"""F-scores over one threshold for all labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.scoring.metrics import AVERAGES, Average


@dataclass(frozen=True)
class ThresholdCurve:
    """F-scores of the blend when one threshold serves all labels.

    Parameters
    ----------
    threshold, samples, micro, macro : float [n]
        The grid and the in-sample score at each of its points.
    chosen : float, optional
        The threshold that was chosen, or the best one of the grid when every label has its own.
    fixed : float
        The untuned threshold that the leaderboard compares with.
    """

    threshold: NDArray[np.floating]
    samples: NDArray[np.floating]
    micro: NDArray[np.floating]
    macro: NDArray[np.floating]
    chosen: float | None = None
    fixed: float = 0.3

    @classmethod
    def compute(
        cls,
        score: Callable[[NDArray[np.bool_], Average], float],
        probability: ArrayLike,
        *,
        grid: ArrayLike | None = None,
        fixed: float = 0.3,
        primary: Average = "samples",
    ) -> ThresholdCurve:
        """Score ``probability`` [n, n_labels] at every threshold of ``grid``; the best by ``primary`` is chosen.

        ``score(predicted, average)`` gets bool [n, n_labels], such as ``lambda p, a: f_beta(truth, p, average=a)``.
        """
        probability = np.asarray(probability)
        points = np.linspace(0.02, 0.98, 49) if grid is None else np.asarray(grid, dtype=np.float64)
        table = {average: np.array([score(probability >= point, average) for point in points]) for average in AVERAGES}
        return cls(points, **table, chosen=float(points[np.argmax(table[primary])]), fixed=fixed)
