"""FashionAI 2018's scores as metrics: what is optimised where every row knows one label group."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params.metric import MetricSection
from labelstack.scoring.attribute_precision import (
    BASIC_PRECISION,
    MAP,
    MAP_OFFICIAL,
    AttributePrecision,
    AttributeScore,
    letters_of,
    scores_of_draws,
    top_values,
)
from labelstack.scoring.attribute_rows import AttributeRows
from labelstack.scoring.f_resampling import Resampled
from labelstack.scoring.metric import Answers, Floats, Metric

SCORES: dict[str, tuple[AttributeScore, str]] = {
    "attribute_map": (MAP, "mAP"),
    "attribute_map_official": (MAP_OFFICIAL, "official mAP"),
    "basic_precision": (BASIC_PRECISION, "basic precision"),
}


class AttributeMetric(Metric):
    """Mean over label groups of a score of each group's rows: see ``attribute_precision``.

    A row's counts are its group, the probability of its most probable value within the group, and that value's letter.
    Intervals are by bootstrap over the rows of each group. 0 where no group has a score.
    """

    wants = "counts"

    def __init__(self, section: MetricSection) -> None:
        super().__init__(section)
        self._score, self.short = SCORES[self.key]
        self.title = self.name = self.short

    def counts(self, Y: Answers, P: NDArray[Any], asked: AttributeRows | None) -> Floats:
        """Counts float64 [n, 3] of probabilities [n, n_labels] for rows that know a label group each."""
        if asked is None:
            raise ValueError(f"{self.title} is for rows that know one label group each, and these know all")
        maybe = np.zeros(Y.shape, np.bool_) if asked.maybe is None else asked.maybe
        return top_values(letters_of(Y, maybe), np.asarray(P), asked.known, np.array(asked.group))

    def score(self, Y: Answers, given: NDArray[Any]) -> float:
        """The mean over groups."""
        found = AttributePrecision.of_counts(given).score(self._score)
        return found if np.isfinite(found) else 0.0

    def strata(self, given: NDArray[Any]) -> NDArray[np.int64]:
        """The rows of a group are resampled among themselves."""
        return np.asarray(given[:, 0], np.int64)

    def resampled(self, Y: Answers, given: NDArray[Any]) -> Resampled:
        """All resamples of a chunk at once, group by group."""
        return lambda weights: np.nan_to_num(scores_of_draws(given, self._score, weights), nan=0.0)

    @property
    def family(self) -> Sequence[Metric]:
        """The metric itself, basic precision and the F-score by which label sets are compared."""
        basic = _basic(self._beta)
        return [self, *([] if self == basic else [basic]), self.fits]


@cache
def _basic(beta: float) -> AttributeMetric:
    return AttributeMetric(MetricSection(primary="basic_precision", beta=beta))
