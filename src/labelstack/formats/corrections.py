"""Corrections of given labels that a person has confirmed: a CSV file with a line for each label of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from labelstack.formats.csv_file import read_csv
from labelstack.formats.format import CompetitionData
from labelstack.formats.problems import FileProblems
from labelstack.support.errors import InputProblems
from labelstack.support.spreadsheet import plain

COLUMNS = ("id", "label", "correction")
ADD: Literal["add"] = "add"
REMOVE: Literal["remove"] = "remove"
_SPLITS = ("train", "validation")


def corrected(root: Path, name: str, data: CompetitionData) -> CompetitionData:
    """The data set with labels added and removed as a file says, and with what is counted of them.

    The file has the columns ``id`` (what the data set calls an image), ``label`` (a name of the label table, or an id
    that is no name), ``correction`` (``add``, ``remove``, or nothing: the line is passed over) and, where an id is in
    both splits, ``split``; others are passed over. Labels of an image that were in order stay so.

    Parameters
    ----------
    root : ``dataset.root``
    name : of the file, below ``root``

    Raises
    ------
    InputProblems
        With every fault of the file: line, column, what was expected and what was found.
    """
    problems: list[str] = []
    lines = _lines(root / name, problems)
    told = FileProblems(name)
    labels, images = _label_ids(data.labels), {split: _places(data, split) for split in _SPLITS}
    sets = {split: data.manifests[split]["label_id"].tolist() for split in _SPLITS if split in data.manifests}
    seen: dict[tuple[str, int, int], str] = {}
    changed: Counter[tuple[str, str]] = Counter()
    n = {split: Counter[int]() for split in _SPLITS}
    for place, cells in lines:
        image, label = _image(cells, place, images, told), _label(cells["label"], place, labels, told)
        action = cells["correction"].lower()
        if action not in (ADD, REMOVE):
            told.add("", place, "correction", f"{ADD}, {REMOVE} or nothing", repr(cells["correction"]))
        elif image is not None and label is not None:
            split, row = image
            given = sets[split][row]
            if (before := seen.setdefault((split, row, label), place)) != place:
                told.add("", place, "label", "each label of an image once", f"{cells['label']!r} on {before} too")
            elif (label in given) == (action == ADD):
                expected = "a label that the image has not" if action == ADD else "a label that the image has"
                told.add("", place, "label", f"{expected}, to {action} it", f"{cells['label']!r} of {cells['id']}")
            else:
                sets[split][row] = _with(given, label) if action == ADD else [one for one in given if one != label]
                n[split][label] += 1 if action == ADD else -1
                changed[split, action] += 1
    problems += told.sentences()
    if problems:
        raise InputProblems(str(root), problems)
    return _counted(data, sets, n, changed)


def _lines(path: Path, problems: list[str]) -> list[tuple[str, dict[str, str]]]:
    """The lines that correct something, as a message names them, and their cells by column."""
    before = len(problems)
    rows = read_csv(path, problems)
    if rows is None:
        if len(problems) == before:
            problems.append(f"{path.name}: not found in {path.parent}, and dataset.corrections in params.yaml names it")
        return []
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    wrong = [name for name in COLUMNS if header.count(name) != 1] + (["split"] if header.count("split") > 1 else [])
    if wrong:
        problems.append(
            f"{path.name}: expected the columns {', '.join(COLUMNS)}, each once, found {', '.join(header) or 'nothing'}"
        )
        return []
    problems += [
        f"{path.name}: line {line}: expected {len(header)} fields, as the header has, found {len(cells)}"
        for line, cells in rows[1:]
        if len(cells) != len(header)
    ]
    named = (
        (f"line {line}", dict(zip(header, (plain(cell.strip()) for cell in cells), strict=True)))
        for line, cells in rows[1:]
        if len(cells) == len(header)
    )
    return [(place, cells) for place, cells in named if cells["correction"]]


def called(manifest: pd.DataFrame) -> list[str]:
    """What a file of corrections may call the images of a manifest: their names, else their ids."""
    names: list[str] = (manifest["name"] if "name" in manifest else manifest["image_id"].astype(str)).tolist()
    return names


def label_texts(labels: pd.DataFrame) -> list[str]:
    """What a file of corrections calls each label of the label table: its name, its id where others have that name."""
    names, ids = labels["name"].tolist(), labels["label_id"].astype(str).tolist()
    count = Counter(names)
    return [name if count[name] == 1 else text for name, text in zip(names, ids, strict=True)]


def _label_ids(labels: pd.DataFrame) -> dict[str, int | None]:
    """Text → label id; None where it is the name of several. A name goes before an id that is spelled like it."""
    ids: list[int] = labels["label_id"].tolist()
    texts: dict[str, int | None] = {str(label): label for label in ids}
    count = Counter(labels["name"].tolist())
    named = zip(labels["name"].tolist(), ids, strict=True)
    return texts | {name: label if count[name] == 1 else None for name, label in named}


def _places(data: CompetitionData, split: str) -> dict[str, int]:
    """What an image is called, or its id → its place in the manifest."""
    if split not in data.manifests:
        return {}
    manifest = data.manifests[split]
    ids = {str(number): place for place, number in enumerate(manifest["image_id"].tolist())}
    return ids | {name: place for place, name in enumerate(called(manifest))}


def _image(
    cells: Mapping[str, str], place: str, images: Mapping[str, Mapping[str, int]], told: FileProblems
) -> tuple[str, int] | None:
    name, split = cells["id"], cells.get("split", "")
    if split not in ("", *_SPLITS):
        told.add("", place, "split", "train or validation", repr(split))
        return None
    inside = [one for one in _SPLITS if name in images[one] and split in ("", one)]
    if len(inside) == 1:
        return inside[0], images[inside[0]][name]
    expected = "an image of one split, or a column split" if inside else f"an image of {split or 'train or validation'}"
    told.add("", place, "id", expected, f"{name!r}{' in both' if inside else ''}")
    return None


def _label(text: str, place: str, labels: Mapping[str, int | None], told: FileProblems) -> int | None:
    label = labels.get(text)
    if label is None:
        expected = "the id of a label, since others have its name" if text in labels else "a label of the data set"
        told.add("", place, "label", expected, repr(text))
    return label


def _with(given: list[int], label: int) -> list[int]:
    return sorted([*given, label]) if given == sorted(given) else [*given, label]


def _counted(
    data: CompetitionData,
    sets: Mapping[str, list[Any]],
    n: Mapping[str, Mapping[int, int]],
    changed: Mapping[tuple[str, str], int],
) -> CompetitionData:
    """The data set with these labels, and what is counted of them put right."""
    manifests, labels, counts = dict(data.manifests), data.labels.copy(), dict(data.counts)
    ids = labels["label_id"].tolist()
    for split, rows in sets.items():
        manifests[split] = manifests[split].assign(label_id=pd.Series(rows, index=manifests[split].index, dtype=object))
        labels[f"n_{split}"] += np.array([n[split].get(label, 0) for label in ids], np.int64)
        if split in counts.get("labels_per_image", {}):
            mean = round(int(labels[f"n_{split}"].sum()) / max(len(rows), 1), 4)
            counts["labels_per_image"] = counts["labels_per_image"] | {split: mean}
        if f"labels_without_{split}_image" in counts:
            counts[f"labels_without_{split}_image"] = int((labels[f"n_{split}"] == 0).sum())
    counts["corrections"] = {split: {action: changed[split, action] for action in (ADD, REMOVE)} for split in sets}
    return replace(data, manifests=manifests, labels=labels, counts=counts)
