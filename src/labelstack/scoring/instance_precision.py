"""The metric of iMaterialist (Fashion) 2019: precision over IoU thresholds of instances, category and attributes right.

Of a photo, for each threshold t of 0.50, 0.55 … 0.95: TP / (TP + FP + FN); a hit is a true and a given instance of the
same category and the same set of attributes whose IoU is above t. The photo's score is the mean over the ten
thresholds, the result the mean over photos (amirassov/kaggle-imaterialist, src/metric.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelstack.masks.run_geometry import shared_pixels
from labelstack.masks.run_lengths import Ints, RunLengths, areas
from labelstack.scoring.bootstrap import Interval, interval_of_mean

THRESHOLDS = np.arange(10, 20)  # twentieths, so that no rounding decides
_OUT_OF = 20
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Instances:
    """Instances of photos, all masks of one size.

    Attributes
    ----------
    photo : int64 [n], place of the photo
    category : int64 [n]
    attributes : n sets of attribute ids
    masks : n masks
    """

    photo: Ints
    category: Ints
    attributes: Sequence[frozenset[int]]
    masks: RunLengths

    def __post_init__(self) -> None:
        lengths = {len(self.photo), len(self.category), len(self.attributes), len(self.masks)}
        if len(lengths) != 1:
            raise ValueError(f"instances: photo, category, attributes and masks have {sorted(lengths)} entries")


class Matches(NamedTuple):
    """Which given instance is which true one, where their IoU is above 0.5: rows of equal length."""

    true: Ints
    given: Ints
    shared: Ints
    union: Ints


def photo_scores(truth: Instances, given: Instances, n: int, *, attributes: bool = True) -> Floats:
    """The score of each of n photos, float64 [n], 0 … 1.

    A photo with instances on neither side has 1. Where several instances would match, each is matched once, pairs of
    higher IoU first.

    Parameters
    ----------
    attributes : whether the sets of attributes must be the same too; categories must be either way

    Raises
    ------
    ValueError
        When masks of a photo differ in size, or a photo is none of the n.
    """
    for name, side in (("truth", truth), ("given", given)):
        if len(side.photo) and not (side.photo.min() >= 0 and side.photo.max() < n):
            raise ValueError(
                f"{name}.photo: expected places of {n} photos, found {side.photo.min()} … {side.photo.max()}"
            )
    matched = matches(truth, given, attributes=attributes)
    hit = hits_of(matched)
    found = np.stack([np.bincount(truth.photo[matched.true], column, n) for column in hit.T], axis=1)
    total = np.bincount(truth.photo, minlength=n) + np.bincount(given.photo, minlength=n)
    missed = total[:, None] - found  # TP + FP + FN
    return np.divide(found, missed, out=np.ones(found.shape), where=missed > 0).mean(axis=1)


def hits_of(matched: Matches) -> NDArray[np.bool_]:
    """Whether the IoU of each pair is above each threshold, bool [n, 10]."""
    return np.asarray(_OUT_OF * matched.shared[:, None] > THRESHOLDS * matched.union[:, None], np.bool_)


def instance_precision(
    truth: Instances, given: Instances, n: int, *, attributes: bool = True, seed: int = 0, draws: int = 1000
) -> Interval:
    """The mean over n photos with its percentile bootstrap interval over photos; arguments as of ``photo_scores``."""
    return interval_of_mean(photo_scores(truth, given, n, attributes=attributes), seed=seed, draws=draws)


def matches(truth: Instances, given: Instances, *, attributes: bool = True) -> Matches:
    """Pairs of one photo and label with an IoU above 0.5, each instance once, pairs of higher IoU first."""
    pairs = _candidates(*_keys(truth, given, attributes))
    if len(pairs) and not _one_size(truth, given, pairs):
        raise ValueError("expected masks of one size in a photo, true and given, found several: resize them first")
    shared = shared_pixels(truth.masks, given.masks, pairs)
    union = areas(truth.masks)[pairs[:, 0]] + areas(given.masks)[pairs[:, 1]] - shared
    likely = _OUT_OF * shared > THRESHOLDS[0] * union
    pairs, shared, union = pairs[likely], shared[likely], union[likely]
    order = np.argsort(-(shared / union), kind="stable")
    chosen = np.sort(order[_each_once(pairs[order])])
    return Matches(pairs[chosen, 0], pairs[chosen, 1], shared[chosen], union[chosen])


def _keys(truth: Instances, given: Instances, attributes: bool) -> tuple[Ints, Ints]:
    """A number for each instance, equal where photo and label are, int64 [n_truth] and [n_given]."""
    sets = [*truth.attributes, *given.attributes] if attributes else []
    number: dict[frozenset[int], int] = {}
    worn = np.array([number.setdefault(frozenset(one), len(number)) for one in sets], np.int64)
    columns = [np.concatenate([getattr(truth, name), getattr(given, name)]) for name in ("photo", "category")]
    stacked = np.stack([*columns, worn] if attributes else columns, axis=1)
    _, key = np.unique(stacked, axis=0, return_inverse=True)
    key = key.reshape(-1).astype(np.int64)
    return key[: len(truth.photo)], key[len(truth.photo) :]


def _candidates(true: Ints, given: Ints) -> Ints:
    """All pairs with equal keys, int64 [k, 2]."""
    order = np.argsort(given, kind="stable")
    low, high = (np.searchsorted(given[order], true, side=side) for side in ("left", "right"))
    count = high - low
    first = np.cumsum(count) - count
    place = np.arange(int(count.sum())) + np.repeat(low - first, count)
    return np.stack([np.repeat(np.arange(len(true)), count), order[place]], axis=1)


def _one_size(truth: Instances, given: Instances, pairs: Ints) -> bool:
    sides = ("height", "width")
    return all(
        np.array_equal(getattr(truth.masks, side)[pairs[:, 0]], getattr(given.masks, side)[pairs[:, 1]])
        for side in sides
    )


def _each_once(pairs: Ints) -> Ints:
    """Places of the pairs that a walk from the first to the last takes when it takes each instance once, int64."""
    left, taken = np.arange(len(pairs)), list[Any]()
    while len(left):
        # A pair that comes first for both its instances is taken whatever happens to others.
        true, given = (np.unique(pairs[left, side], return_index=True)[1] for side in (0, 1))
        now = left[np.intersect1d(true, given)]
        taken.append(now)
        gone = np.isin(pairs[left, 0], pairs[now, 0]) | np.isin(pairs[left, 1], pairs[now, 1])
        left = left[~gone]
    return np.concatenate(taken) if taken else np.zeros(0, np.int64)
