"""Rows that know one label group each, and what is said of them within it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class LabelGroups:
    """Labels in groups, of each of which exactly one label is true.

    Parameters
    ----------
    group : [n_labels], the group of each label

    Attributes
    ----------
    names : groups in the order of their first labels
    columns : for each of them int64, the places of its labels
    """

    def __init__(self, group: Sequence[str]) -> None:
        self.group = tuple(map(str, group))
        self.names = tuple(dict.fromkeys(self.group))
        of_label = np.array(self.group)
        self.columns = tuple(np.flatnonzero(of_label == name) for name in self.names)

    def known(self, Y: ArrayLike) -> NDArray[np.str_]:
        """The group [n] in which each row's targets [n, n_labels] are: the one with the most of their sum.

        Raises ``ValueError`` that names the first row without any.
        """
        targets = np.asarray(Y, np.float64)
        mass = np.stack([targets[:, columns].sum(axis=1) for columns in self.columns], axis=1)
        if (empty := ~(mass > 0).any(axis=1)).any():
            raise ValueError(
                f"Y: row {int(np.argmax(empty))} has no label, expected one in each row ({int(empty.sum())} rows)"
            )
        return np.array(self.names)[mass.argmax(axis=1)]

    def equal_parts(self, P: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """P [..., n_labels] such that every group with anything in it has the sum 1 / n_groups; empty ones stay 0.

        NaN is taken for nothing; raise ``ValueError`` where a group of a row has numbers and NaN.
        """
        parts = np.zeros(P.shape, np.float32)
        for name, columns in zip(self.names, self.columns, strict=True):
            own = P[..., columns]
            absent = np.isnan(own)
            if (mixed := absent.any(axis=-1) & ~absent.all(axis=-1)).any():
                place = np.argwhere(mixed)[0].tolist()
                raise ValueError(f"label group {name}: expected numbers or NaN, found both at {place}")
            own = np.where(absent, 0, own)
            total = own.sum(axis=-1, keepdims=True, dtype=np.float64) * len(self.names)
            parts[..., columns] = np.divide(own, total, out=np.zeros(own.shape), where=total > 0)
        return parts


@dataclass(frozen=True)
class AttributeRows:
    """Rows that know one label group each.

    Attributes
    ----------
    known : str [n], the group that each row knows
    group : str [n_labels], the group of each label
    maybe : bool [n, n_labels], labels that may be true besides; None: none
    """

    known: NDArray[np.str_]
    group: tuple[str, ...]
    maybe: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, group: Sequence[str], known: ArrayLike, maybe: NDArray[np.bool_] | None = None) -> AttributeRows:
        """The rows of groups as texts; raise ``ValueError`` when a row knows a group that has no label."""
        knows = np.asarray(known, np.str_)
        if lost := sorted(set(knows.tolist()) - set(map(str, group))):
            raise ValueError(f"known: no label is of group {', '.join(lost[:5])}")
        return cls(knows, tuple(map(str, group)), maybe)

    @cached_property
    def groups(self) -> LabelGroups:
        """The groups of the labels."""
        return LabelGroups(self.group)

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """The labels that each row knows, bool [n, n_labels]."""
        return self.known[:, None] == np.array(self.group)

    def where(self, chosen: NDArray[Any]) -> AttributeRows:
        """Some of the rows: bool [n] or their numbers."""
        return AttributeRows(self.known[chosen], self.group, None if self.maybe is None else self.maybe[chosen])

    def of_labels(self, columns: NDArray[np.bool_]) -> AttributeRows:
        """The same rows of some labels, bool [n_labels]: all labels of the groups that the rows know."""
        group = tuple(name for name, kept in zip(self.group, columns.tolist(), strict=True) if kept)
        return AttributeRows.of(group, self.known, None if self.maybe is None else self.maybe[:, columns])

    def within(self, P: ArrayLike, *, silent: bool = False) -> NDArray[np.float32]:
        """Probabilities [..., n, n_labels] divided by their sum within what each row knows, 0 elsewhere.

        Where that sum is 0 or nothing is said (NaN): equal ones, or, with ``silent``, 0.
        """
        inside = self.inside
        kept = np.where(inside, np.nan_to_num(np.asarray(P, np.float32), nan=0.0), 0)
        total = kept.sum(axis=-1, keepdims=True, dtype=np.float64)
        equal = np.zeros(inside.shape) if silent else inside / inside.sum(axis=1, keepdims=True)
        return np.where(total > 0, kept / np.where(total > 0, total, 1), equal).astype(np.float32)
