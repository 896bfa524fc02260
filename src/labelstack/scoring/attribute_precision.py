"""FashionAI 2018's scores of rows that know one label group each: mean average precision and basic precision.

The official text: each image has its most probable value and that value's probability. At a threshold, an image below
it is blocked; of the others one whose value is ``y`` counts as predicted and correct, one with ``n`` as predicted, one
with ``m`` as neither. The average precision of an attribute is the mean of correct/predicted over all thresholds that
block from none to all but one of its images, and the score is the mean over attributes. Basic precision is the mean
over attributes of correct/predicted at threshold 0.

Every image sets a threshold, its own probability; equal ones enter together. Two readings differ in images of an ``m``:

- ``official``: they set thresholds, at which the running precision is counted once more; thresholds at which nothing
  is predicted yet are left out;
- ``dropped``: they are dropped first, as published implementations do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.scoring.bootstrap import Interval

Reading = Literal["official", "dropped"]
READINGS: tuple[Reading, ...] = get_args(Reading)
Floats = NDArray[np.float64]
NO, MAYBE, YES = 0, 1, 2
_CHUNK_BYTES = 4 * 2**20  # of the picks of a few resamples: more do not stay in a processor's cache


class AttributeScore(NamedTuple):
    """What is scored: ``mean_average_precision`` in a reading, or ``basic_precision``, which has one alone."""

    name: Literal["mean_average_precision", "basic_precision"] = "mean_average_precision"
    reading: Reading = "dropped"


MAP = AttributeScore()
MAP_OFFICIAL = AttributeScore(reading="official")
BASIC_PRECISION = AttributeScore("basic_precision")


class AttributePrecision:
    """What is predicted for rows of one label group each, ready to be scored and resampled.

    Parameters
    ----------
    truth : int [n, n_labels], ``NO``, ``MAYBE`` or ``YES``; only the labels of a row's own group are looked at
    P : float [n, n_labels], probabilities or anything that orders images alike; so are the labels looked at
    known : [n], the label group of each row
    group : [n_labels], the label group of each label

    Raises
    ------
    ValueError
        On input that does not fit; the message names the argument.

    Attributes
    ----------
    groups : label groups that rows know, in the order of their labels
    """

    def __init__(self, truth: ArrayLike, P: ArrayLike, known: ArrayLike, group: ArrayLike) -> None:
        letters, values, knows, groups = np.asarray(truth), np.asarray(P), np.asarray(known), np.asarray(group)
        if values.ndim != 2 or letters.shape != values.shape:
            raise ValueError(
                f"truth has shape {letters.shape}, P has {values.shape}: they must be equal, [n, n_labels]"
            )
        if knows.shape != values.shape[:1] or groups.shape != values.shape[1:]:
            raise ValueError(
                f"known has shape {knows.shape} and group {groups.shape}: they must be those of P's rows and columns, "
                f"which has {values.shape}"
            )
        there = set(knows.tolist())
        self.groups = [name for name in dict.fromkeys(groups.tolist()) if name in there]
        if lost := sorted(there - set(self.groups), key=str):
            raise ValueError(f"known: group has no label of {', '.join(map(str, lost[:5]))}")
        if not self.groups:
            raise ValueError("P has no rows")
        counts = top_values(letters, values, knows, groups)
        self._tops = [_top(counts[knows == name]) for name in self.groups]

    @classmethod
    def of_counts(cls, counts: NDArray[Any]) -> AttributePrecision:
        """What ``top_values`` gave, or some of its rows, ready to be scored; groups are called by their numbers."""
        found = cls.__new__(cls)
        places = [counts[:, 0] == number for number in np.unique(counts[:, 0])]
        found.groups = [str(int(number)) for number in np.unique(counts[:, 0])]
        found._tops = [_top(counts[place]) for place in places]
        return found

    def of_groups(self, score: AttributeScore = MAP) -> Floats:
        """Score of each group, float64 [n_groups]; NaN where every image's value is an ``m``."""
        return np.array([_scores(top, score, np.ones((1, len(top.letter)), np.float32))[0] for top in self._tops])

    def score(self, score: AttributeScore = MAP) -> float:
        """Mean over the groups that have a score; NaN where none has."""
        return float(_mean(self.of_groups(score)[:, None])[0])

    def resampled(self, score: AttributeScore = MAP, *, draws: int = 1000, seed: int = 0) -> Floats:
        """Scores of resamples, float64 [draws]: from each group as many of its images as it has, with replacement.

        Which images are drawn depends on the seed and the numbers of images, not on what is predicted for them.
        """
        drawn = np.empty((len(self._tops), draws))
        for place, top in enumerate(self._tops):
            done = 0
            for weights in _weights(len(top.letter), draws, [seed, place]):
                drawn[place, done : done + len(weights)] = _scores(top, score, weights)
                done += len(weights)
        return _mean(drawn)

    def interval(
        self, score: AttributeScore = MAP, *, draws: int = 1000, seed: int = 0, level: float = 0.95
    ) -> Interval:
        """The score and its percentile bootstrap interval over images within groups."""
        return _interval(self.score(score), self.resampled(score, draws=draws, seed=seed), level)


def paired_precision(
    a: AttributePrecision,
    b: AttributePrecision,
    score: AttributeScore = MAP,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The score of ``a`` minus that of ``b``, of the same rows in the same order, both on the same resamples."""
    ours, theirs = (each.resampled(score, draws=draws, seed=seed) for each in (a, b))
    return _interval(a.score(score) - b.score(score), ours - theirs, level)


def scores_of_draws(counts: NDArray[Any], score: AttributeScore, weights: NDArray[np.float32]) -> Floats:
    """Scores float64 [draws] of what ``top_values`` gave, each row as often as ``weights`` float32 [draws, n] say."""
    parts = [np.flatnonzero(counts[:, 0] == number) for number in np.unique(counts[:, 0])]
    return _mean(np.stack([_scores(_top(counts[part]), score, weights[:, part]) for part in parts]))


def letters_of(Y: ArrayLike, maybe: ArrayLike) -> NDArray[np.int8]:
    """``truth`` of labels that are true and labels that may be, both bool [n, n_labels]."""
    true = np.asarray(Y, np.bool_)
    return np.where(true, YES, np.where(np.asarray(maybe, np.bool_), MAYBE, NO)).astype(np.int8)


class _Top(NamedTuple):
    """The most probable values of one group's images.

    Attributes
    ----------
    order : int [n], images from the most to the least probable
    letter : int [n], of their values, in this order
    starts : int, places in this order at which another probability begins
    """

    order: NDArray[np.int64]
    letter: NDArray[np.int8]
    starts: NDArray[np.int64]


def top_values(truth: NDArray[Any], P: NDArray[Any], known: NDArray[Any], group: NDArray[Any]) -> Floats:
    """What the scores of rows are computed from, float64 [n, 3]; arguments as of ``AttributePrecision``.

    The number of the row's group in the order of the labels, the probability of its most probable value, that value's
    letter.
    """
    counts = np.empty((len(P), 3))
    for number, name in enumerate(dict.fromkeys(group.tolist())):
        rows, place = np.flatnonzero(known == name), np.flatnonzero(group == name)
        mine = P[rows[:, None], place]
        if not np.isfinite(mine).all():
            raise ValueError("P must be numbers without NaN and infinity among the labels that a row knows")
        best = mine.argmax(axis=1)
        letter = truth[rows, place[best]]
        if not np.isin(letter, (NO, MAYBE, YES)).all():
            raise ValueError(f"truth must be {NO}, {MAYBE} or {YES}")
        counts[rows] = np.column_stack([np.full(len(rows), number), mine[np.arange(len(rows)), best], letter])
    return counts


def _top(counts: Floats) -> _Top:
    probability, letter = counts[:, 1], counts[:, 2]
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    return _Top(order, letter[order].astype(np.int8), starts)


def _scores(top: _Top, score: AttributeScore, weights: NDArray[np.float32]) -> Floats:
    """Score of one group in each resample, float64 [draws]; ``weights`` [draws, n] says how often an image occurs."""
    seen = weights[:, top.order]
    counted, correct = top.letter != MAYBE, top.letter == YES
    if score.name == "basic_precision":
        return _divided(seen @ correct.astype(np.float32), seen @ counted.astype(np.float32))
    steps = [seen * counted, seen * correct, seen if score.reading == "official" else None]
    if len(top.starts) < len(top.letter):  # equal probabilities enter together
        steps = [None if step is None else np.add.reduceat(step, top.starts, axis=1) for step in steps]
    entering, hits, thresholds = steps
    predicted = np.cumsum(entering, axis=1)  # whole numbers, exact in float32 up to 16 million images
    precision = np.cumsum(hits, axis=1)
    np.divide(precision, predicted, out=precision, where=predicted > 0)  # nothing predicted: 0, not counted below
    weight = entering if thresholds is None else thresholds * (predicted > 0)
    total = np.einsum("ij,ij->i", precision, weight, dtype=np.float64)
    return _divided(total, weight.sum(axis=1, dtype=np.float64))


def _divided(one: NDArray[Any], other: NDArray[Any]) -> Floats:
    return np.divide(one, other, out=np.full(len(one), np.nan), where=other > 0, dtype=np.float64)


def _mean(of_groups: Floats) -> Floats:
    """Over the groups [n_groups, draws] that have a score; NaN where none has."""
    there = ~np.isnan(of_groups)
    return _divided(np.where(there, of_groups, 0).sum(axis=0), there.sum(axis=0))


def _interval(score: float, resampled: Floats, level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    low, high = np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(score, float(low), float(high))


def _weights(n: int, draws: int, seed: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """How often each of n images occurs in each resample, float32 [some draws, n] a chunk; multinomial."""
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    rng, size = np.random.default_rng(seed), max(1, _CHUNK_BYTES // (8 * n))
    for start in range(0, draws, size):
        rows = min(size, draws - start)
        picks = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float32)
