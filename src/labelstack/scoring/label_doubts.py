"""Labels that are likely wrong or missing, by what models predict that did not learn from them.

Confident learning (Northcutt, Jiang, Chuang 2021), each label against the rest, as cleanlab's filter for multi-label
data has it: how many labels are wrong follows from how confident models usually are of rows with and without a label.
benchmarks/label_audit.py compares it with the largest losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST = 2  # rows with and without a label; fewer say nothing of it


@dataclass(frozen=True)
class Doubts:
    """Places at which a given label, or its absence, is doubtful, the most doubtful first.

    Attributes
    ----------
    row, label : int64 [m]
    given : bool [m], whether the label is given there: true is likely wrong, false likely missing
    probability : float64 [m], of the label
    """

    row: NDArray[np.int64]
    label: NDArray[np.int64]
    given: NDArray[np.bool_]
    probability: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.row)


def label_doubts(P: NDArray[Any], Y: NDArray[np.bool_]) -> Doubts:
    """The doubtful labels by cleanlab's filter, ordered by its quality score, which allows for rare labels.

    Parameters
    ----------
    P : float [n, n_labels], probabilities of models that did not learn from the row
    Y : bool [n, n_labels], labels as given; one that all rows but one have, or lack, is not judged
    """
    given = Y.sum(axis=0)
    judged = np.flatnonzero(np.minimum(given, len(Y) - given) >= _LEAST)
    if not len(judged):
        return _at(P, Y, np.zeros(0, np.int64), np.zeros(0, np.int64))
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    sets = [np.flatnonzero(row).tolist() for row in Y[:, judged]]
    chances = np.clip(P[:, judged].astype(np.float64), 0, 1)
    found = find_multilabel_issues_per_class(sets, chances, n_jobs=1)
    quality = np.asarray(get_label_quality_scores_per_class(sets, chances, adjust_pred_probs=True))
    row, column = np.nonzero(found)
    order = np.lexsort((column, row, quality[row, column]))
    return _at(P, Y, row[order], judged[column[order]])


def by_loss(P: NDArray[Any], Y: NDArray[np.bool_], most: int) -> Doubts:
    """The places with the largest log loss, to compare with; arguments as of ``label_doubts``.

    Parameters
    ----------
    most : so many
    """
    order = np.argsort(np.where(Y, P, 1 - P), axis=None, kind="stable")[:most]
    return _at(P, Y, *np.unravel_index(order, Y.shape))


def _at(P: NDArray[Any], Y: NDArray[np.bool_], row: NDArray[Any], label: NDArray[Any]) -> Doubts:
    return Doubts(row.astype(np.int64), label.astype(np.int64), Y[row, label], P[row, label].astype(np.float64))
