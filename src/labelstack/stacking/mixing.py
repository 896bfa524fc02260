"""Blends of members: plain weighted means, and means within label groups of members that are calibrated first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.scoring.attribute_rows import AttributeRows, LabelGroups
from labelstack.scoring.metric import metric_of
from labelstack.stacking.blending import blend, fit_weights, greedy_weights, likelihood_weights
from labelstack.stacking.deciding.calibration import fit_temperature, tempered
from labelstack.support.errors import UserError

Members = Mapping[str, NDArray[np.float32]]
_SHRINKAGE = 200.0  # rows that shared weights count for where each label group has its own
_FLOOR = 1e-6  # a probability that a file's digits made 0 says no more than this
_STEPS = 200  # of expectation maximisation, at most


class Mix(Protocol):
    """A blend that was found: call it with name → float [n, n_labels] of the members that have a weight.

    Attributes
    ----------
    weights : name → weight, the mean over label groups where each has its own; they sum to 1
    """

    @property
    def weights(self) -> dict[str, float]:
        """See above."""

    def __call__(self, members: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """Blended probabilities float32 [n, n_labels]."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON; ``mix_from`` gets every digit back."""


@dataclass(frozen=True)
class PlainMix:
    """A weighted mean, see ``blending.blend``."""

    weights: dict[str, float]
    exclusive: bool = False

    def __call__(self, members: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """Blended probabilities."""
        return blend(members, self.weights, exclusive=self.exclusive)

    def to_dict(self) -> dict[str, Any]:
        """The weights."""
        return {"weights": self.weights}


@dataclass(frozen=True)
class GroupMix:
    """Within each label group a weighted mean of calibrated members: Σ w softmax(ln p / T).

    Attributes
    ----------
    group : for each label its group
    of_group : name → weight in each group, in the order of the groups' first labels
    temperature : name → temperature in each group
    """

    group: tuple[str, ...]
    of_group: Mapping[str, Sequence[float]]
    temperature: Mapping[str, Sequence[float]]

    @property
    def weights(self) -> dict[str, float]:
        """Mean over the groups."""
        return {name: float(np.mean(own)) for name, own in self.of_group.items()}

    def __call__(self, members: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """Blended probabilities: equal parts of the sum 1 for all groups of a row in which any member says anything.

        A member that says nothing in a row's group, all zeros, leaves it to the others.
        """
        used = {name: np.asarray(members[name], np.float32) for name, weight in self.weights.items() if weight}
        groups = LabelGroups(self.group)
        n = len(next(iter(used.values())))
        found, said = np.zeros((n, len(self.group))), np.zeros((n, len(groups.names)), bool)
        for place, columns in enumerate(groups.columns):
            total, mass = np.zeros((n, len(columns))), np.zeros(n)
            for name, P in used.items():
                if weight := self.of_group[name][place]:
                    own = P[:, columns]
                    there = own.sum(axis=1) > 0
                    total[there] += weight * _tempered(own[there], self.temperature[name][place])
                    mass[there] += weight
            said[:, place] = mass > 0
            found[:, columns] = np.divide(total, mass[:, None], out=total, where=mass[:, None] > 0)
        parts = np.maximum(said.sum(axis=1, keepdims=True), 1)
        return np.clip(found / parts, 0, 1).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Weights, and what each group has of its own."""
        own = {"group": list(self.group), "of_group": {name: list(w) for name, w in self.of_group.items()}}
        return {
            "weights": self.weights,
            "groups": own | {"temperature": {name: list(t) for name, t in self.temperature.items()}},
        }


def mix_from(kept: Mapping[str, Any], *, exclusive: bool = False) -> Mix:
    """The blend that ``to_dict`` wrote; ``exclusive`` as of ``blending.blend``, for one without label groups."""
    own = kept.get("groups")
    if own is None:
        return PlainMix({name: float(weight) for name, weight in kept["weights"].items()}, exclusive)
    return GroupMix(tuple(own["group"]), dict(own["of_group"]), dict(own["temperature"]))


def given_mix(weights: Mapping[str, float], exclusive: bool, asked: AttributeRows | None) -> Mix:
    """The blend with weights that are given, nothing being calibrated."""
    if asked is None:
        return PlainMix(dict(weights), exclusive)
    n_groups = len(asked.groups.names)
    same = {name: [float(weight)] * n_groups for name, weight in weights.items()}
    return GroupMix(asked.group, same, {name: [1.0] * n_groups for name in weights})


def fit_mix(
    members: Members,
    Y: NDArray[np.bool_],
    settings: BlendSection,
    metric: MetricSection,
    *,
    rows: NDArray[np.bool_] | None = None,
    folds: NDArray[np.int64] | None = None,
    exclusive: bool = False,
    asked: AttributeRows | None = None,
    progress: str = "",
) -> Mix:
    """A blend by ``blend.method``, fitted on rows with answers.

    Where rows know one label group each, every member first gets a temperature for each group, drawn to one for all
    of them (``blend.calibration``); then weights, the same in all groups or not (``blend.weights``).

    Parameters
    ----------
    members : name → float [n, n_labels], out-of-fold; of rows that know a group each as ``AttributeRows.within`` gives,
        zeros where a member says nothing
    Y, rows, folds, exclusive : as of ``blending.fit_weights``
    asked : what all n rows know; None: all labels
    """
    if asked is None:
        by: dict[str, Any] = {"rows": rows, "folds": folds, "exclusive": exclusive, "progress": progress}
        return PlainMix(fit_weights(members, Y, settings, metric, **by), exclusive)
    if rows is not None:
        members, Y, asked = {name: p[rows] for name, p in members.items()}, Y[rows], asked.where(rows)
    if settings.method == "nelder_mead":
        raise UserError("blend.method: nelder_mead goes by thresholds, which label groups have none of; use log_loss")
    groups = asked.groups
    of_group = [np.flatnonzero(asked.known == name) for name in groups.names]
    temperature = {
        name: _temperatures(P, Y, groups, of_group) if settings.calibration == "temperature" else [1.0] * len(of_group)
        for name, P in members.items()
    }
    calibrated = {name: _calibrated(P, groups, of_group, temperature[name]) for name, P in members.items()}
    names = list(members)
    speaking = [[name for name in names if calibrated[name][mine].any()] for mine in of_group]
    # weights of members that say nothing of some groups cannot be had from all rows: theirs start equal in each group
    everyone = all(len(own) in (0, len(names)) for own in speaking)
    shared = _weights(calibrated, Y, settings, metric, asked, progress) if everyone else {}
    if everyone and (settings.weights == "shared" or settings.method == "equal"):
        return GroupMix(asked.group, {name: [shared[name]] * len(of_group) for name in names}, temperature)
    weights = []
    for mine, there in zip(of_group, speaking, strict=True):
        centre = shared or {name: 1 / len(there or names) for name in there or names}
        if not there or settings.method == "equal":
            weights.append(centre)
        elif settings.method == "greedy":
            part = {name: calibrated[name][mine] for name in there}
            weights.append(_weights(part, Y[mine], settings, metric, asked.where(mine), progress))
        else:
            right = np.stack([calibrated[name][mine][Y[mine]] for name in there])
            found = drawn_weights(right, [centre[name] for name in there])
            weights.append(dict(zip(there, found, strict=True)))
    return GroupMix(asked.group, {name: [own.get(name, 0.0) for own in weights] for name in names}, temperature)


def drawn_weights(right: NDArray[np.floating[Any]], shared: Sequence[float]) -> list[float]:
    """Likeliest weights of a mixture under a Dirichlet prior at shared ones, by expectation maximisation.

    Dempster, Laird & Rubin 1977; the prior counts for ``_SHRINKAGE`` rows.

    Parameters
    ----------
    right : [n_members, n], what each member gives the true label of each row
    shared : a weight for each member, of sum 1
    """
    centre = np.asarray(shared, np.float64)
    weights = centre.copy()
    p = np.maximum(right.astype(np.float64), 1e-12)
    for _ in range(_STEPS):
        found = weights * (p / (weights @ p)).sum(axis=1)
        new = (found + _SHRINKAGE * centre) / (p.shape[1] + _SHRINKAGE)
        new /= new.sum()
        moved = float(np.abs(new - weights).max())
        weights = new
        if moved < 1e-5:
            break
    return [float(weight) for weight in weights]


def _temperatures(
    P: NDArray[np.float32], Y: NDArray[np.bool_], groups: LabelGroups, rows: Sequence[NDArray[np.int64]]
) -> list[float]:
    """Of one member a temperature for each group, drawn to the middle one of those that groups would take alone."""
    parts = []
    for mine, columns in zip(rows, groups.columns, strict=True):
        said = mine[P[np.ix_(mine, columns)].any(axis=1)]
        place = np.ix_(said, columns)
        parts.append((Y[place], np.maximum(P[place], np.float32(_FLOOR))))
    alone = [fit_temperature(y, p, 1.0) for y, p in parts if len(y)]
    usual = float(np.exp(np.median(np.log(alone)))) if alone else 1.0
    return [fit_temperature(y, p, usual) if len(y) else usual for y, p in parts]


def _tempered(P: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    return tempered(np.maximum(P, np.float32(_FLOOR)), temperature)


def _calibrated(
    P: NDArray[np.float32], groups: LabelGroups, rows: Sequence[NDArray[np.int64]], temperature: Sequence[float]
) -> NDArray[np.float32]:
    found = np.zeros_like(P)
    for mine, columns, T in zip(rows, groups.columns, temperature, strict=True):
        said = mine[P[np.ix_(mine, columns)].any(axis=1)]
        if len(said):
            found[np.ix_(said, columns)] = _tempered(P[np.ix_(said, columns)], T)
    return found


def _weights(
    members: Members,
    Y: NDArray[np.bool_],
    settings: BlendSection,
    metric: MetricSection,
    asked: AttributeRows,
    progress: str,
) -> dict[str, float]:
    if len(members) == 1 or settings.method == "equal":
        return {name: 1 / len(members) for name in members}
    if settings.method == "log_loss":
        return likelihood_weights(members, Y, exclusive=True)
    return greedy_weights(members, metric_of(metric).objective(Y, asked=asked), settings.step, progress)
