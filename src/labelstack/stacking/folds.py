"""Multi-label stratified folds: every label spread over them as evenly as it goes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.stacking.array_checks import check_answers
from labelstack.stacking.grouped_folds import deal_sources
from labelstack.stacking.rarest_first import check_k
from labelstack.stacking.sources import source_codes
from labelstack.support.errors import UserError


def assign_folds(Y: ArrayLike, k: int, seed: int, *, source: ArrayLike | None = None) -> NDArray[np.int64]:
    """Fold of each image, with every label spread over the folds as evenly as it goes.

    Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011): the label with the fewest images left
    is dealt out first, each image to the fold that lacks this label most, then to the one with most room. Unlike the
    paper's, folds have a fixed size: n // k, and one more in the first n % k. With sources, whole ones are dealt out
    (``deal_sources``), and folds are as even as these allow.

    Parameters
    ----------
    Y : 0/1 [n, n_labels]
    k : number of folds, 2 … n
    seed : breaks ties
    source : strings or whole numbers [n]; images of one source get one fold

    Returns
    -------
    int64 [n] in 0 … k − 1, each used

    Raises
    ------
    UserError
        When k is below 2 or above the number of images or of sources.
    """
    answers = check_answers(Y)
    check_k(k, len(answers))
    if source is None:
        return _iterative(answers, k, seed)
    codes = source_codes(source, len(answers))
    n_sources = int(codes.max()) + 1
    if n_sources < k:
        lower = f"lower folds.k to {n_sources} or less, or " if n_sources > 1 else ""
        raise UserError(
            f"folds.k is {k}: the images come from {n_sources} source{'s' * (n_sources > 1)}, and no source is split; "
            f"{lower}set folds.group_by to null"
        )
    return deal_sources(answers, codes, np.full(k, 1 / k), np.random.default_rng(seed))


def _iterative(answers: NDArray[np.bool_], k: int, seed: int) -> NDArray[np.int64]:
    n = len(answers)
    rng = np.random.default_rng(seed)
    room = np.full(k, n // k)
    room[: n % k] += 1
    lack = room[:, None] / n * answers.sum(axis=0)  # [k, n_labels] images of each label that each fold still wants
    folds = np.full(n, -1, np.int64)
    left = answers.sum(axis=0)
    shuffled = rng.permutation(n)
    members = [shuffled[answers[shuffled, label]] for label in range(answers.shape[1])]
    while left.any():
        label = int(np.argmin(np.where(left > 0, left, n + 1)))
        for image in members[label]:
            if folds[image] < 0:
                _deal(int(image), _neediest(lack[:, label], room, rng), folds, room, lack, left, answers)
    for image in shuffled[folds[shuffled] < 0]:  # images without labels
        folds[image] = _neediest(room.astype(np.float64), room, rng)
        room[folds[image]] -= 1
    return folds


def _neediest(lack: NDArray[np.float64], room: NDArray[np.int64], rng: np.random.Generator) -> int:
    open_ = np.where(room > 0, lack, -np.inf)
    best = np.flatnonzero(open_ >= open_.max() - 1e-9)
    best = best[room[best] == room[best].max()]
    return int(best[0] if len(best) == 1 else rng.choice(best))


def _deal(
    image: int,
    fold: int,
    folds: NDArray[np.int64],
    room: NDArray[np.int64],
    lack: NDArray[np.float64],
    left: NDArray[np.int64],
    answers: NDArray[np.bool_],
) -> None:
    labels = np.flatnonzero(answers[image])
    folds[image] = fold
    room[fold] -= 1
    lack[fold, labels] -= 1
    left[labels] -= 1
