"""Records of JSON files, checked one by one: every problem is kept, none stops the reading."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from labelstack.formats.json_file import found, kind
from labelstack.progress import bar

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1


@dataclass
class Images:
    """Valid image records of one file, in its order; ``index`` gives the record number of every valid id."""

    image_id: list[int] = field(default_factory=list)
    url: list[list[str]] = field(default_factory=list)
    index: dict[int, int] = field(default_factory=dict)


@dataclass
class Annotations:
    """Label ids (sorted, each once) by image id; ``index`` gives the record number of every valid image id."""

    label_id: dict[int, list[int]] = field(default_factory=dict)
    index: dict[int, int] = field(default_factory=dict)
    repeated: int = 0


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


def read_images(records: Collection[Any], file: str, problems: list[str]) -> Images:
    """Check image records ``{"image_id", "url"}``; ``url`` is a string or a non-empty list of strings."""
    images = Images()
    if not records:
        problems.append(f"{file}: images: expected at least one record, found an empty list")
    for number, record in enumerate(bar(records, desc=f"{file} images", unit="record")):
        if type(record) is not dict:
            problems.append(f"{file}: images[{number}]: expected an object, found {kind(record)}")
            continue
        image_id = _image_id(record, f"{file}: images[{number}]", images.index, number, problems)
        urls = record.get("url")
        if type(urls) is str:
            urls = [urls]
        if type(urls) is not list or not urls or not all(map(_is_url, urls)):
            _explain_url(record, f"{file}: images[{number}]{_named(image_id)}", problems)
        elif image_id is not None:
            images.image_id.append(image_id)
            images.url.append(urls)
    return images


def read_annotations(records: Collection[Any], file: str, allowed: AllowedLabels, problems: list[str]) -> Annotations:
    """Check annotation records ``{"image_id", "label_id"}``.

    An empty ``label_id`` list is a statement (no label fits) and accepted. A label that stands twice in one
    record is kept once and counted in ``repeated``.
    """
    annotations = Annotations()
    known: dict[int | str, int] = {}
    for number, record in enumerate(bar(records, desc=f"{file} annotations", unit="record")):
        if type(record) is not dict:
            problems.append(f"{file}: annotations[{number}]: expected an object, found {kind(record)}")
            continue
        image_id = _image_id(record, f"{file}: annotations[{number}]", annotations.index, number, problems)
        raw = record.get("label_id")
        if type(raw) is not list:
            what = kind(raw) if "label_id" in record else "no such key"
            where = f"{file}: annotations[{number}]{_named(image_id)}"
            problems.append(f"{where}: label_id: expected a list of label ids, found {what}")
            continue
        labels = []
        for place, value in enumerate(raw):
            # by type first: True and 1.0 would find the entry of 1
            label = known.get(value) if type(value) is str or type(value) is int else None
            if label is None:
                label = parse_id(value, INT32_MAX)
                if label is None or label not in allowed:
                    where = f"{file}: annotations[{number}]{_named(image_id)}"
                    problems.append(f"{where}: label_id[{place}]: expected {allowed.wording}, found {found(value)}")
                    continue
                known[value] = label
            labels.append(label)
        unique = sorted(set(labels))
        annotations.repeated += len(labels) - len(unique)
        if image_id is not None:
            annotations.label_id[image_id] = unique
    return annotations


def cross_check(images: Images, annotations: Annotations, file: str, problems: list[str]) -> None:
    """Every image has an annotation and every annotation an image; a problem for each that has not."""
    for image_id, number in images.index.items():
        if image_id not in annotations.index:
            problems.append(f"{file}: images[{number}] (image_id {image_id}): expected an annotation, found none")
    for image_id, number in annotations.index.items():
        if image_id not in images.index:
            problems.append(
                f"{file}: annotations[{number}] (image_id {image_id}): expected an image of this id, found none"
            )


def _image_id(
    record: dict[str, Any], where: str, index: dict[int, int], number: int, problems: list[str]
) -> int | None:
    """A valid id that was not seen before, noted in ``index``; else ``None`` after adding a problem."""
    image_id = parse_id(record.get("image_id"), INT64_MAX)
    if image_id is None:
        what = found(record["image_id"]) if "image_id" in record else "no such key"
        expected = f"an integer of 0…{INT64_MAX} or a string of its digits"
        problems.append(f"{where}: image_id: expected {expected}, found {what}")
        return None
    first = index.setdefault(image_id, number)
    if first != number:
        problems.append(
            f"{where} (image_id {image_id}): image_id: expected each id once, found it in record {first} too"
        )
        return None
    return image_id


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


def _explain_url(record: dict[str, Any], where: str, problems: list[str]) -> None:
    urls = record.get("url")
    if type(urls) is not list:
        what = "no such key" if "url" not in record else found(urls)
        problems.append(f"{where}: url: expected a non-empty string or a list of such, found {what}")
    elif not urls:
        problems.append(f"{where}: url: expected at least one URL, found an empty list")
    else:
        problems.extend(
            f"{where}: url[{place}]: expected a non-empty string, found {found(url)}"
            for place, url in enumerate(urls)
            if not _is_url(url)
        )


def _named(image_id: int | None) -> str:
    return "" if image_id is None else f" (image_id {image_id})"
