"""What instances can be: categories and attributes of label_descriptions.json, or categories of label_list.csv."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from labelstack.formats.csv_file import read_csv
from labelstack.formats.json_file import found, load_list, load_object
from labelstack.formats.problems import FileProblems
from labelstack.formats.records import INT32_MAX, parse_id

DESCRIPTIONS, LIST = "label_descriptions.json", "label_list.csv"
CATEGORY, ATTRIBUTE = "category", "attribute"  # label groups; an attribute's is its supercategory where it has one
_NO_CLASS = "null"  # what label_list.csv calls the background
_LIST_HEADER = ("id", "name")
PhotoLabels = Literal["categories", "attributes", "both"]


@dataclass(frozen=True)
class InstanceLabels:
    """Categories and attributes by the ids that files use; ids may have gaps.

    Attributes
    ----------
    file : that says so, for messages
    categories, attributes : id → name as in the file
    group : id of an attribute → its label group
    """

    file: str
    categories: Mapping[int, str]
    attributes: Mapping[int, str] = field(default_factory=dict)
    group: Mapping[int, str] = field(default_factory=dict)

    @property
    def first_attribute(self) -> int:
        """What is added to an attribute's id where categories are labels beside it."""
        return max(self.categories) + 1

    def of_photos(self, what: PhotoLabels) -> dict[int, tuple[str, str]]:
        """The labels that a photo may have: label id → name and group, ascending.

        Alone, categories and attributes keep their ids; of both, attributes come after the last category. A name that
        comes twice is told with its id.
        """
        categories = {key: (CATEGORY, name) for key, name in self.categories.items()}
        shift = self.first_attribute if what == "both" else 0
        attributes = {key + shift: (self.group[key], name) for key, name in self.attributes.items()}
        chosen = {} if what == "attributes" else categories
        chosen |= {} if what == "categories" else attributes
        names = [f"{group}::{name}" for group, name in chosen.values()]
        told = (
            f"{name} ({label - shift if label >= shift else label})" if names.count(name) > 1 else name
            for label, name in zip(chosen, names, strict=True)
        )
        pairs = zip(chosen, told, chosen.values(), strict=True)
        return {label: (name, group) for label, name, (group, _) in sorted(pairs)}


def read_instance_labels(root: Path, problems: list[str]) -> InstanceLabels | None:
    """Categories and attributes of a data set; ``None`` after adding problems.

    ``label_descriptions.json`` says, or, where that is not there, ``label_list.csv`` (``id,name``): categories alone,
    a line called null being the background.
    """
    if not (root / DESCRIPTIONS).exists() and (root / LIST).exists():
        return _of_list(root / LIST, problems)
    return _of_descriptions(root / DESCRIPTIONS, problems)


def _of_descriptions(path: Path, problems: list[str]) -> InstanceLabels | None:
    before = len(problems)
    content = load_object(path, problems)
    if content is None:
        return None
    told = FileProblems(path.name)
    names: dict[str, dict[int, str]] = {}
    groups: dict[int, str] = {}
    for key in ("categories", "attributes"):
        names[key] = {}
        for number, record in enumerate(load_list(content, key, path.name, problems) or ()):
            label = _described(record, key, f"{key}[{number}]", names[key], told)
            if label is not None and key == "attributes":
                group = record.get("supercategory")
                groups[label] = group.strip() if isinstance(group, str) and group.strip() else ATTRIBUTE
    problems += told.sentences()
    if len(problems) == before and not names["categories"]:
        problems.append(f"{path.name}: categories: expected at least one record, found an empty list")
    if len(problems) > before:
        return None
    return InstanceLabels(path.name, names["categories"], names["attributes"], groups)


def _described(record: Any, key: str, place: str, names: dict[int, str], told: FileProblems) -> int | None:
    """The id of a record, its name noted; ``None`` after telling what is wrong."""
    if not isinstance(record, dict):
        told.add(key, place, "", "an object with id and name", found(record))
        return None
    label, name = parse_id(record.get("id"), INT32_MAX // 2), record.get("name")
    if label is None:
        told.add(key, place, "id", "a whole number from 0", found(record.get("id")))
        return None
    if label in names:
        told.add(key, place, "id", "each id once", f"{label} again")
    if not isinstance(name, str) or not name.strip():
        told.add(key, place, "name", "a name", found(name))
        return None
    names.setdefault(label, name.strip())
    return label


def _of_list(path: Path, problems: list[str]) -> InstanceLabels | None:
    before, told = len(problems), FileProblems(path.name)
    rows = read_csv(path, problems)
    if rows is None:
        return None
    header = tuple(cell.strip() for cell in rows[0][1]) if rows else ()
    if header != _LIST_HEADER:
        problems.append(f"{path.name}: line 1: expected the header id,name, found {found(','.join(header))}")
        return None
    names: dict[int, str] = {}
    for line, cells in rows[1:]:
        if len(cells) != 2:
            expected = "two fields, id and name (a name with a comma between quotation marks)"
            told.add("", f"line {line}", "", expected, str(len(cells)))
        else:
            _described({"id": cells[0].strip(), "name": cells[1]}, LIST, f"line {line}", names, told)
    problems += told.sentences()
    named = {label: name for label, name in names.items() if name != _NO_CLASS}
    if len(problems) == before and not named:
        problems.append(f"{path.name}: expected at least one class, found none")
    return InstanceLabels(path.name, named) if len(problems) == before else None
