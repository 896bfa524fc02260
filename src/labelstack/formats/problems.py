"""What is wrong in one file: every kind of fault is told, and one that a million records share is told once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

_FEW = 3  # places told one by one, and named where there are more
_VALUES = 5  # different values told of a kind of fault
_KEPT = 1000  # different values told apart while counting


@dataclass
class _Value:
    """The same thing found in place of what was expected: how often, and where first."""

    count: int = 0
    places: list[str] = field(default_factory=list)


@dataclass
class _Kind:
    """Faults for which the same was expected of the same key."""

    key: str
    expected: str
    few: int
    count: int = 0
    values: dict[str, _Value] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


class FileProblems:
    """Collects the faults of one file's records or lines.

    Up to three faults of a kind are told one by one. More are one sentence: how often, what was found, where first.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._kinds: dict[tuple[str, str, str], _Kind] = {}

    def add(
        self, section: str, place: str, key: str, expected: str, found: str, at: str = "", *, few: int = _FEW
    ) -> None:
        """Note a fault.

        Parameters
        ----------
        section : list that the record stands in; faults of two lists are two kinds
        place : the record or line, as a message names it
        key : key or column, empty for the record itself
        expected, found : in words
        at : place inside the value, such as ``[3]``
        few : so many faults of this kind are told one by one
        """
        kind = self._kinds.setdefault((section, key, expected), _Kind(key, expected, few))
        kind.count += 1
        where = f"{place}: {key}{at}" if at else place
        if kind.count <= few:
            named = f"{key}{at}: " if key else ""
            kind.sentences.append(f"{self.file}: {place}: {named}expected {expected}, found {found}")
        if found not in kind.values and len(kind.values) >= _KEPT:
            return
        value = kind.values.setdefault(found, _Value())
        value.count += 1
        if len(value.places) < _FEW:
            value.places.append(where)

    def sentences(self) -> list[str]:
        """The problems in sentences, a kind after the other, in the order in which they first came up."""
        return [sentence for kind in self._kinds.values() for sentence in self._told(kind)]

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def _told(self, kind: _Kind) -> Iterator[str]:
        if kind.count <= kind.few:
            yield from kind.sentences
            return
        start = f"{self.file}: {kind.key}: " if kind.key else f"{self.file}: "
        if len(kind.values) == 1:
            ((found, value),) = kind.values.items()
            yield f"{start}expected {kind.expected}, found {found} ({_times(value.count)}, first in {_listed(value)})"
            return
        shown = sorted(kind.values.items(), key=lambda item: -item[1].count)[:_VALUES]
        told = [f"{found} ({_times(value.count)}, first in {value.places[0]})" for found, value in shown]
        rest = kind.count - sum(value.count for _, value in shown)
        if rest:
            told.append(f"others {_times(rest)}")
        yield f"{start}expected {kind.expected}, found something else {_times(kind.count)}: " + ", ".join(told)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _listed(value: _Value) -> str:
    return ", ".join(value.places) + (", …" if value.count > len(value.places) else "")
