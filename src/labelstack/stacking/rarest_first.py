"""Folds by the rarest label of each image: the rule of a published solution, to compare with what used it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from labelstack.support.errors import UserError


def rarest_first_folds(label_ids: Sequence[Sequence[int]], k: int, seed: int) -> NDArray[np.int64]:
    """Fold of each image: to where the fewest images with its rarest label are so far.

    The rule of artyompal's iMet 2019 folds (`make_folds.py` in https://github.com/lopuhin/kaggle-imet-2019), to the
    bit: images are gone through in the order of pandas' ``DataFrame.sample(frac=1, random_state=seed)`` (42 there).
    The rarest label is the one with the fewest images in all, of equally rare ones the first that the image names.
    Among folds that hold as few images with it, ``random.seed(row)`` and ``random.choice`` decide. All labels of the
    image then count for its fold. Folds are not made equally big. Images without labels, which the original has none
    of, come last and each goes to the smallest fold, by the same choice among folds as small.

    Parameters
    ----------
    label_ids : for each image, in the order of the file, its labels in the order in which the file names them
    k : number of folds, 2 … number of images
    seed : of the order, 0 … 2³² − 1

    Returns
    -------
    int64 [n] in 0 … k − 1, each used

    Raises
    ------
    UserError
        When k is below 2 or above the number of images, or a fold gets none, which happens where images are few.
    """
    n = len(label_ids)
    check_k(k, n)
    frequency = Counter(chain.from_iterable(label_ids))
    held = {label: [0] * k for label in frequency}  # images of each label in each fold
    tie = random.Random()
    folds = np.full(n, -1, np.int64)
    sizes = [0] * k

    def put(row: int, counts: list[int]) -> int:
        fewest = min(counts)
        folds_with = [fold for fold, count in enumerate(counts) if count == fewest]
        if len(folds_with) > 1:
            tie.seed(row)
        fold = folds_with[0] if len(folds_with) == 1 else tie.choice(folds_with)
        folds[row] = fold
        sizes[fold] += 1
        return fold

    bare = []
    for row in np.random.RandomState(seed).permutation(n).tolist():  # what pandas draws from
        if not len(label_ids[row]):
            bare.append(row)
            continue
        fold = put(row, held[min(label_ids[row], key=frequency.__getitem__)])
        for label in label_ids[row]:
            held[label][fold] += 1
    for row in bare:
        put(row, sizes)
    if 0 in sizes:
        raise UserError(
            f"folds.k is {k}: going by the rarest label left fold {sizes.index(0)} without any of the {n} images; "
            "lower folds.k, or use iterative stratification"
        )
    return folds


def check_k(k: int, n: int) -> None:
    """Raise a UserError unless ``n`` images can be split into ``k`` folds."""
    if not 2 <= k <= n:
        raise UserError(f"folds.k is {k}: {n} images can be split into 2 … {n} folds")
