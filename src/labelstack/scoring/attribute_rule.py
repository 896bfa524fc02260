"""When attributes are written beside a found instance: a rule by category, chosen on the metric of iMaterialist 2019.

A wrong set of attributes makes of a hit a false positive and a false negative, so a set is written only where the
metric gains by it. What can be written of an instance is one of a few sets (such as the labels that a decision rule
chooses, or those more likely than not), if the chance of the set is high enough, else no attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelstack.scoring.instance_precision import Instances, hits_of, matches

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
SETS = ("decided", "likeliest")  # by a decision rule; attributes more likely than not
_LEVELS = 20  # least chances that are tried besides always, quantiles of those that occur
_ROUNDS = 3


@dataclass(frozen=True)
class FoundPairs:
    """Given instances that are a true one but for attributes, and what could be written of them.

    Attributes
    ----------
    photo : int64 [m], place of the photo
    category : int64 [m]
    hits : bool [m, n_thresholds], whether the IoU is above each threshold
    bare : bool [m], whether the true one has no attributes
    right : bool [m, n_sets], whether the true one has the attributes of each set
    chance : float64 [m, n_sets], how likely each set is the true one, 0 … 1
    total : int64 [n_photos], true and given instances of each photo, those that are nothing to each other too
    """

    photo: Ints
    category: Ints
    hits: Bools
    bare: Bools
    right: Bools
    chance: Floats
    total: Ints

    def where(self, photos: Bools) -> FoundPairs:
        """The same where photos, bool [n_photos], are chosen; places of photos stay."""
        kept = photos[self.photo]
        return FoundPairs(
            self.photo[kept],
            self.category[kept],
            self.hits[kept],
            self.bare[kept],
            self.right[kept],
            self.chance[kept],
            np.where(photos, self.total, 0),
        )


@dataclass(frozen=True)
class Written:
    """Of a category: which set is written, and the least chance of it."""

    set: int
    least: float


Rule = Mapping[int, Written]  # a category that is not in it is written without attributes


def written(rule: Rule, category: Ints, chance: Floats) -> Ints:
    """Which set is written of each instance, int64 [m], −1: none.

    Parameters
    ----------
    category : int64 [m]
    chance : float64 [m, n_sets]
    """
    chosen = np.full(len(category), -1, np.int64)
    for one, how in rule.items():
        chosen[(category == one) & (chance[:, how.set] >= how.least)] = how.set
    return chosen


def counted_right(found: FoundPairs, chosen: Ints) -> Bools:
    """Which instances have the right attributes when set ``chosen`` int64 [m] is written of each, −1: none."""
    given = found.right[np.arange(len(chosen)), np.maximum(chosen, 0)]
    return np.asarray(np.where(chosen < 0, found.bare, given), np.bool_)


def photo_scores_of(found: FoundPairs, right: Bools) -> Floats:
    """The score of each photo, float64 [n_photos], 0 … 1, as ``instance_precision.photo_scores`` has it."""
    n = len(found.total)
    hit = np.stack([np.bincount(found.photo[right], column[right], n) for column in found.hits.T], axis=1)
    missed = found.total[:, None] - hit  # TP + FP + FN
    return np.asarray(np.divide(hit, missed, out=np.ones(hit.shape), where=missed > 0).mean(axis=1), np.float64)


def as_written(rule: Rule) -> dict[str, dict[str, str | float]]:
    """A rule as JSON holds it, to the last bit; ``{}``: no attributes of any category."""
    return {str(one): {"set": SETS[how.set], "least": float(how.least)} for one, how in sorted(rule.items())}


def choose_rule(found: FoundPairs) -> dict[int, Written]:
    """The rule with the highest mean score of photos: each category in turn, from none written, until nothing gains.

    Photos with no instance on either side count nothing.
    """
    rule: dict[int, Written] = {}
    categories, times = np.unique(found.category, return_counts=True)
    for _ in range(_ROUNDS):
        before = dict(rule)
        for category in categories[np.argsort(-times, kind="stable")].tolist():
            _choose_one(found, rule, category)
        if rule == before:
            break
    return rule


def _choose_one(found: FoundPairs, rule: dict[int, Written], category: int) -> None:
    """Put the best choice for one category into the rule, the others as they are."""
    rule.pop(category, None)
    own = np.flatnonzero(found.category == category)
    places, photo = np.unique(found.photo[own], return_inverse=True)
    right = counted_right(found, written(rule, found.category, found.chance))
    right[own] = False
    others = np.stack([np.bincount(found.photo[right], c[right], len(found.total)) for c in found.hits.T], axis=1)
    fixed, total, hits = others[places], found.total[places][:, None], found.hits[own]

    def score(correct: Bools) -> float:
        hit = fixed + np.stack([np.bincount(photo[correct], c[correct], len(places)) for c in hits.T], axis=1)
        return float((hit / (total - hit)).sum())

    best = score(found.bare[own])
    for number in range(found.right.shape[1]):
        chance, good = found.chance[own, number], found.right[own, number]
        levels = np.unique(np.append(np.quantile(chance, np.linspace(0, 1, _LEVELS + 1)[1:]), 0.0))
        for least in levels.tolist():
            if (reached := score(np.where(chance >= least, good, found.bare[own]))) > best + 1e-9:
                best, rule[category] = reached, Written(number, least)


def candidate_sets(decided: Bools, probability: NDArray[np.floating]) -> list[Bools]:
    """Each of ``SETS``, bool [n, n_labels], of what a decision rule gives and of probabilities, both [n, n_labels]."""
    return [decided, probability >= 0.5]


def pairs_of(truth: Instances, given: Instances) -> tuple[Ints, Ints, Bools]:
    """Places in ``truth`` and in ``given`` of instances that are the same but for attributes, and their ``hits``."""
    same = matches(truth, given, attributes=False)
    return same.true, same.given, hits_of(same)


def chance_of(sets: Bools, probability: NDArray[np.floating]) -> Floats:
    """How likely each set is, were labels independent: float64 [n] of bool and probabilities, both [n, n_labels]."""
    P = np.clip(np.asarray(probability, np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.exp(np.where(sets, np.log(P), np.log1p(-P)).sum(axis=1)), np.float64)
