"""Two spellings of the keys: ``image_id``, ``label_id`` on its page, ``imageId``, ``labelId`` in the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Any

from labelstack.formats.json_file import found

IMAGE = ("image_id", "imageId")
LABEL = ("label_id", "labelId")
_SPELLINGS = tuple(zip(IMAGE, LABEL, strict=True))
_KNOWN = {*IMAGE, *LABEL, "url"}


@dataclass(slots=True)
class Shape:
    """Records with the same keys: the keys of the image's id and of its labels, ``None`` where there is none."""

    section: str
    first: int
    keys: tuple[str, ...]
    image: str | None
    label: str | None
    count: int = 0


class Spelling:
    """How the keys of one file's records are spelled.

    Parameters
    ----------
    *sections : the lists of records of the file, of which the first records are looked at

    Attributes
    ----------
    image, label : how messages spell a key that is not there; ``image_id``, ``label_id`` unless the first records say
        otherwise
    """

    def __init__(self, *sections: Iterable[Any] | None) -> None:
        self._shapes: dict[tuple[str, tuple[str, ...]], Shape] = {}
        first = [record for records in sections for record in islice(records or (), 1) if isinstance(record, dict)]
        counts = [sum(key in record for record in first for key in names) for names in _SPELLINGS]
        self.image, self.label = _SPELLINGS[1] if counts[1] > counts[0] else _SPELLINGS[0]

    def of(self, section: str, record: Mapping[str, Any], number: int) -> Shape:
        """Which keys of a record hold what; the record is counted."""
        keys = tuple(record)
        shape = self._shapes.get((section, keys))
        if shape is None:
            image, label = (next((key for key in both if key in record), None) for both in (IMAGE, LABEL))
            shape = self._shapes[section, keys] = Shape(section, number, keys, image, label)
        shape.count += 1
        return shape

    def mixture(self) -> str | None:
        """What is wrong when records of one file use both spellings, with counts and first records."""
        snake, camel = (self._counted(spelling) for spelling in _SPELLINGS)
        if not (snake and camel):
            return None
        told = (
            ", ".join(f"{key} in {count:,} record{'s' * (count > 1)} (first {place})" for key, count, place in counted)
            for counted in (snake, camel)
        )
        return "expected one spelling of the keys, found two: " + "; and ".join(told)

    def _counted(self, names: Iterable[str]) -> list[tuple[str, int, str]]:
        """Of each key: in how many records it stands, and the first of them."""
        counted = []
        for key in names:
            shapes = [shape for shape in self._shapes.values() if key in shape.keys and _belongs(key, shape)]
            if shapes:
                first = shapes[0]  # sections are read one after the other, and shapes are kept in the order of reading
                counted.append((key, sum(shape.count for shape in shapes), f"{first.section}[{first.first}]"))
        return counted


@lru_cache(maxsize=1024)
def absent(wanted: str, keys: tuple[str, ...]) -> str:
    """What a message says of a key that is not among a record's: the nearest one that is."""
    plain = {_plain(key): key for key in keys if key not in _KNOWN}
    near = get_close_matches(_plain(wanted), plain, n=1, cutoff=0.4)
    return f"no such key, the nearest is {found(plain[near[0]])}" if near else "no such key"


def _belongs(key: str, shape: Shape) -> bool:
    return key in IMAGE or shape.section == "annotations"


def _plain(key: str) -> str:
    return key.casefold().replace("_", "").replace("-", "").replace(" ", "")
