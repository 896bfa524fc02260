"""Records of JSON files, checked one by one: every problem is kept, none stops the reading."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from labelstack.formats.json_file import found, kind
from labelstack.formats.problems import FileProblems
from labelstack.formats.spelling import Shape, Spelling, absent
from labelstack.support.progress import bar

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
IMAGES, ANNOTATIONS = "images", "annotations"
_ID = f"an integer of 0…{INT64_MAX} or a string of its digits"
_DIGITS = frozenset((str, int))


@dataclass
class Images:
    """Valid image records of one file, in its order.

    ``index`` gives the record number of every valid id; ``unread`` counts records without a readable id.
    """

    image_id: list[int] = field(default_factory=list)
    url: list[list[str]] = field(default_factory=list)
    index: dict[int, int] = field(default_factory=dict)
    unread: int = 0


@dataclass
class Annotations:
    """Label ids (sorted, each once) of every record, ``None`` where unreadable; else like ``Images``."""

    label_id: list[list[int] | None] = field(default_factory=list)
    index: dict[int, int] = field(default_factory=dict)
    unread: int = 0
    repeated: int = 0

    def of(self, image_id: int) -> list[int] | None:
        """Label ids of an image, ``None`` without a valid annotation."""
        number = self.index.get(image_id)
        return None if number is None else self.label_id[number]


@dataclass(frozen=True)
class AllowedLabels:
    """Label ids that may occur (``None``: any in 0…2³¹−1) and how a message calls them."""

    ids: frozenset[int] | range | None = None
    wording: str = f"an integer of 0…{INT32_MAX} or a string of its digits"

    def __contains__(self, label: int) -> bool:
        return self.ids is None or label in self.ids


def parse_id(value: Any, largest: int) -> int | None:
    """Integer of 0…``largest`` from an int or a string of ASCII digits; ``None`` for anything else.

    Booleans and floats are refused even when they equal an integer; leading zeros are accepted.
    """
    if type(value) is str:
        if not (value.isascii() and value.isdigit()):
            return None
        value = value.lstrip("0") or "0"
        if len(value) > 19:  # beyond int64; int() itself refuses very long strings
            return None
        value = int(value)
    elif type(value) is not int:
        return None
    return value if 0 <= value <= largest else None


def read_images(records: Collection[Any], spelling: Spelling, problems: FileProblems) -> Images:
    """Check image records ``{"image_id", "url"}``; ``url`` is a string or a non-empty list of strings."""
    images = Images()
    for number, record in enumerate(bar(records, desc=f"{problems.file} images", unit="record")):
        if type(record) is not dict:
            problems.add(IMAGES, f"images[{number}]", "", "an object", kind(record))
            images.unread += 1
            continue
        shape = spelling.of(IMAGES, record, number)
        image_id = _image_id(record, shape, spelling.image, images, number, problems)
        urls = record.get("url")
        if type(urls) is str:
            urls = [urls]
        if type(urls) is not list or not urls or not all(map(_is_url, urls)):
            _explain_url(record, _place(shape, number, image_id), problems)
        elif image_id is not None:
            images.image_id.append(image_id)
            images.url.append(urls)
    return images


def read_annotations(
    records: Collection[Any], spelling: Spelling, allowed: AllowedLabels, problems: FileProblems
) -> Annotations:
    """Check annotation records ``{"image_id", "label_id"}``; ``label_id`` is a list of label ids, or one.

    An empty ``label_id`` list is a statement (no label fits) and accepted. A label that stands twice in one
    record is kept once and counted in ``repeated``.
    """
    annotations = Annotations()
    known: dict[int | str, int] = {}
    for number, record in enumerate(bar(records, desc=f"{problems.file} annotations", unit="record")):
        annotations.label_id.append(None)
        if type(record) is not dict:
            problems.add(ANNOTATIONS, f"annotations[{number}]", "", "an object", kind(record))
            annotations.unread += 1
            continue
        shape = spelling.of(ANNOTATIONS, record, number)
        image_id = _image_id(record, shape, spelling.image, annotations, number, problems)
        raw = record[shape.label] if shape.label is not None else None
        scalar = type(raw) in _DIGITS
        values = [raw] if scalar else raw
        if type(values) is not list:
            where = _place(shape, number, image_id)
            if shape.label is None:
                _lacks(spelling.label, "a list of label ids", where, shape.keys, problems)
            else:
                problems.add(ANNOTATIONS, where, shape.label, "a list of label ids", kind(raw))
            continue
        try:  # by type first: True and 1.0 would find the entry of 1
            labels = [known[value] for value in values] if _DIGITS.issuperset(map(type, values)) else None
        except KeyError:
            labels = None
        if labels is None:
            where = _place(shape, number, image_id)
            labels = _labels(values, known, allowed, (shape.label or "", where), problems, scalar=scalar)
        unique = sorted(set(labels))
        annotations.repeated += len(labels) - len(unique)
        annotations.label_id[number] = unique
    return annotations


def cross_check(images: Images, annotations: Annotations, spelling: Spelling, problems: FileProblems) -> None:
    """Every image has an annotation and every annotation an image; a problem for those that have not.

    Not told where ids that could not be read, which are problems themselves, may be the reason for all of them.
    """
    for section, one, other, expected in (
        (IMAGES, images, annotations, "an annotation"),
        (ANNOTATIONS, annotations, images, "an image of this id"),
    ):
        lonely = [(image_id, number) for image_id, number in one.index.items() if image_id not in other.index]
        if 3 < len(lonely) <= other.unread:
            continue
        for image_id, number in lonely:
            problems.add(section, f"{section}[{number}] ({spelling.image} {image_id})", "", expected, "none")


def _labels(
    values: list[Any],
    known: dict[int | str, int],
    allowed: AllowedLabels,
    where: tuple[str, str],
    problems: FileProblems,
    *,
    scalar: bool,
) -> list[int]:
    """The valid label ids among some values; ``known`` learns them."""
    labels = []
    for place, value in enumerate(values):
        label = parse_id(value, INT32_MAX)
        if label is None or label not in allowed:
            key, record = where
            at = "" if scalar else f"[{place}]"
            problems.add(ANNOTATIONS, record, key, allowed.wording, found(value), at)
            continue
        known[value] = label
        labels.append(label)
    return labels


def _image_id(
    record: dict[str, Any], shape: Shape, name: str, read: Images | Annotations, number: int, problems: FileProblems
) -> int | None:
    """A valid id that was not seen before, noted in ``read.index``; else ``None`` after adding a problem."""
    image_id = parse_id(record[shape.image], INT64_MAX) if shape.image is not None else None
    if image_id is None:
        where = f"{shape.section}[{number}]"
        if shape.image is None:
            _lacks(name, _ID, where, shape.keys, problems)
        else:
            problems.add(shape.section, where, shape.image, _ID, found(record[shape.image]))
        read.unread += 1
        return None
    first = read.index.setdefault(image_id, number)
    if first != number:
        key = shape.image or name
        where = f"{shape.section}[{number}] ({key} {image_id})"
        problems.add(shape.section, where, key, "each id once", f"it in record {first} too")
        return None
    return image_id


def _lacks(name: str, expected: str, where: str, keys: tuple[str, ...], problems: FileProblems) -> None:
    """A key is missing; one problem however many records of whichever list lack it."""
    problems.add("", where, name, expected, absent(name, keys), few=1)


def _is_url(value: Any) -> bool:
    """A non-empty string that UTF-8 can hold (JSON escapes may spell lone surrogates)."""
    if type(value) is not str or not value.strip():
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _explain_url(record: dict[str, Any], where: str, problems: FileProblems) -> None:
    urls = record.get("url")
    expected = "a non-empty string or a list of such"
    if "url" not in record:
        _lacks("url", expected, where, tuple(record), problems)
    elif type(urls) is not list:
        problems.add(IMAGES, where, "url", expected, found(urls))
    elif not urls:
        problems.add(IMAGES, where, "url", "at least one URL", "an empty list")
    else:
        for place, url in enumerate(urls):
            if not _is_url(url):
                problems.add(IMAGES, where, "url", "a non-empty string", found(url), f"[{place}]")


def _place(shape: Shape, number: int, image_id: int | None) -> str:
    named = "" if image_id is None else f" ({shape.image} {image_id})"
    return f"{shape.section}[{number}]{named}"
