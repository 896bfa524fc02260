"""A part of the rows that has its share of every label: for validation or an audit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.stacking.array_checks import check_answers
from labelstack.stacking.grouped_folds import deal_sources
from labelstack.stacking.sources import source_codes
from labelstack.support.errors import UserError


def choose_share(Y: ArrayLike, share: float, seed: int, source: ArrayLike | None = None) -> NDArray[np.bool_]:
    """Which rows form a part with a share of the rows and, as nearly as it goes, that share of every label.

    Rows, or whole sources, are dealt to the part and to the rest as ``deal_sources`` does.

    Parameters
    ----------
    Y : 0/1 [n, n_labels]
    share : of the rows, above 0 and below 1
    seed : breaks ties
    source : strings or whole numbers [n], equal where rows belong together

    Returns
    -------
    bool [n], true for some rows and false for some; without sources true for ``n * share`` of them, rounded, and at
    least for one

    Raises
    ------
    UserError
        When share is not between 0 and 1, or there are fewer than two rows or sources to choose from.
    """
    answers = check_answers(Y)
    n = len(answers)
    if not 0 < share < 1:
        raise UserError(f"a share of {share:g} of the rows cannot be chosen: it must be above 0 and below 1")
    codes = np.arange(n) if source is None else source_codes(source, n)
    if codes.max() < 1:
        raise UserError(
            f"a share of {share:g} cannot be chosen from {n} row{'s' * (n > 1)} of one source, which is not split: "
            "two sources are needed, one for each side"
        )
    return deal_sources(answers, codes, [share, 1 - share], np.random.default_rng([seed, 2])) == 0
