"""The kind `pseudo`: labels that a teacher is sure of, added to rows of train and given to rows of test."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from labelstack.params.students import PseudoSection
from labelstack.scoring.metric import metric_of
from labelstack.stacking.deciding.thresholds import best_global
from labelstack.stages.rows import MoreRows, Rows
from labelstack.stages.second_kinds.teacher import Taught


class Pseudo(Taught):
    """Labels are only added; held-out rows keep theirs."""

    def targets(self, rows: Rows) -> NDArray[np.float32] | None:
        """Labels of rows of train and what is added to them, float32 [n, n_labels]; None where nothing is."""
        margin = cast(PseudoSection, self.section).margin
        if margin is None:
            return None
        P = self.teacher(rows)
        return added_labels(rows.Y, P, self._threshold(rows, P), margin).astype(np.float32)

    def more(self, rows: Rows) -> MoreRows | None:
        """The share of the test rows that the teacher is surest of, with the labels above its threshold."""
        share = cast(PseudoSection, self.section).test
        if not share:
            return None
        test = self.teacher_of_test(rows)
        chosen = surest(test.probability, share)
        given = test.probability[chosen] > self._threshold(rows, self.teacher(rows))
        some = given.any(axis=1)  # a row without a label teaches that there is none
        return MoreRows(test.image_id[chosen][some], given[some].astype(np.float32))

    def numbers(self, rows: Rows) -> dict[str, float]:
        """The threshold, labels added to rows of train, and rows of test."""
        targets, more = self.targets(rows), self.more(rows)
        return {
            "pseudo.threshold": self._threshold(rows, self.teacher(rows)),
            "pseudo.labels_added": 0.0 if targets is None else float(targets.sum() - rows.Y.sum()),
            "pseudo.test_rows": 0.0 if more is None else float(len(more.row_id)),
        }

    def _threshold(self, rows: Rows, P: NDArray[np.float32]) -> float:
        """As it is given, or the best one of the rows."""
        given = cast(PseudoSection, self.section).threshold
        if given is not None:
            return given
        f = metric_of(self.params.metric).fits
        return float(best_global(rows.Y, P, f.average, f.beta))


def added_labels(Y: NDArray[np.bool_], P: NDArray[np.float32], threshold: float, margin: float) -> NDArray[np.bool_]:
    """Labels bool [n, n_labels] and those whose probability is above the threshold by more than ``margin``.

    As in `gen_pseudo_labels.py` of https://github.com/artyompal/imet, whose input is probability minus threshold.
    """
    return Y | (P - np.float32(threshold) > np.float32(margin))


def surest(P: NDArray[np.float32], share: float) -> NDArray[np.int64]:
    """Which rows of P [n, n_labels] have the greatest mean of |p − 0.5|, int64 [share · n], the surest first.

    The measure of the first of iMet 2019. Of equally sure rows the first counts as surer.
    """
    sure = np.abs(P.astype(np.float64) - 0.5).mean(axis=1)
    return np.argsort(-sure, kind="stable")[: round(share * len(P))]
