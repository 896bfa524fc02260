"""Calibration and decision where labels exclude each other within groups: each group on its own.

p' = softmax(ln p / T + b) within a group: a temperature (Guo et al. 2017) and, where asked for, an offset for each
label, which moves its prior ("bias-corrected temperature scaling", Alexandari et al. 2020) and may move decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.scoring.attribute_rows import AttributeRows, LabelGroups
from labelstack.stacking.array_checks import check_probability
from labelstack.stacking.deciding.calibration import fit_temperature

_FLOOR = 1e-6
_OFFSET = 0.3  # how far from 0 an offset is likely to be, one standard deviation


@dataclass(frozen=True)
class GroupCalibration:
    """A fitted calibration of every label group: call it with P [n, n_labels].

    Attributes
    ----------
    group : for each label its group
    temperature : of each group, in the order of the groups' first labels
    offset : of each label, added to ln p / T; empty: none
    """

    method: ClassVar[str] = "groups"
    group: tuple[str, ...]
    temperature: tuple[float, ...]
    offset: tuple[float, ...] = ()

    def __call__(self, P: ArrayLike) -> NDArray[np.float32]:
        """Calibrated probabilities float32 [n, n_labels]; the sum of each group of a row stays, so 0 stays 0."""
        probability = check_probability(P)
        if probability.shape[1] != len(self.group):
            raise ValueError(f"P has {probability.shape[1]} labels, the calibration was fitted with {len(self.group)}")
        offset = np.array(self.offset or np.zeros(len(self.group)))
        found = np.zeros(probability.shape, np.float64)
        for columns, T in zip(LabelGroups(self.group).columns, self.temperature, strict=True):
            own = probability[:, columns].astype(np.float64)
            total = own.sum(axis=1, keepdims=True)
            shares = np.divide(own, total, out=np.zeros_like(own), where=total > 0)
            logits = np.log(np.maximum(shares, _FLOOR)) / T + offset[columns]
            raised = np.exp(logits - logits.max(axis=1, keepdims=True))
            found[:, columns] = raised / raised.sum(axis=1, keepdims=True) * total
        return found.astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON."""
        found = {"method": self.method, "group": list(self.group), "temperature": list(self.temperature)}
        return found | ({"offset": list(self.offset)} if self.offset else {})

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> GroupCalibration:
        """What ``to_dict`` gave."""
        return cls(
            tuple(map(str, kept["group"])), tuple(map(float, kept["temperature"])), tuple(kept.get("offset", ()))
        )


def fit_groups(
    Y: NDArray[np.bool_],
    P: NDArray[np.float32],
    asked: AttributeRows,
    *,
    temperature: bool = True,
    offset: bool = False,
) -> GroupCalibration:
    """Fit each group by the cross-entropy of its own rows; temperatures are drawn to 1 and offsets to 0.

    Parameters
    ----------
    Y, P : [n, n_labels], of each row only what it knows counts
    temperature, offset : which of the two are fitted
    """
    temperatures, offsets = [], np.zeros(len(asked.group))
    for name, columns in zip(asked.groups.names, asked.groups.columns, strict=True):
        mine = np.flatnonzero(asked.known == name)
        y, p = Y[np.ix_(mine, columns)], asked.where(mine).within(P[mine])[:, columns]
        p = np.maximum(p, np.float32(_FLOOR))
        temperatures.append(fit_temperature(y, p, 1.0) if temperature and len(mine) else 1.0)
        if offset and len(mine):
            offsets[columns] = _fit_offsets(y, np.log(p.astype(np.float64)) / temperatures[-1])
    return GroupCalibration(asked.group, tuple(temperatures), tuple(offsets.tolist()) if offset else ())


def most_probable_of_groups(P: NDArray[np.float32], group: tuple[str, ...]) -> NDArray[np.bool_]:
    """The first of the most probable labels of every group of a row that has any probability, bool [n, n_labels]."""
    chosen = np.zeros(P.shape, np.bool_)
    for columns in LabelGroups(group).columns:
        own = P[:, columns]
        there = np.flatnonzero(own.max(axis=1) > 0)
        chosen[there, columns[own[there].argmax(axis=1)]] = True
    return chosen


def _fit_offsets(y: NDArray[np.bool_], logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Offsets with the least cross-entropy under a normal prior around 0; convex."""
    from scipy.optimize import minimize

    frequency = y.mean(axis=0)

    def loss(b: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = logits + b
        top = z.max(axis=1, keepdims=True)
        raised = np.exp(z - top)
        total = raised.sum(axis=1, keepdims=True)
        value = float((np.log(total) + top).mean() - (z * y).sum(axis=1).mean())
        weight = 1 / (len(y) * _OFFSET**2)
        return value + weight * float(b @ b) / 2, (raised / total).mean(axis=0) - frequency + weight * b

    found = minimize(loss, np.zeros(y.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x - found.x.mean())
