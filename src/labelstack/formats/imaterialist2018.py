"""Files of the iMaterialist Challenge (Fashion) at FGVC5, 2018, read into manifests and a label table.

``train.json`` and ``validation.json`` hold ``{"images": [{"image_id", "url"}], "annotations": [{"image_id",
"label_id"}]}``, ``test.json`` images only. Ids may be integers or strings of digits, ``url`` a string or a list; keys
beside these are ignored. Ids are unique inside one split only. Annotations in ``test.json`` are never used: they are
counted and left unread.

``labels.csv`` (``label_id,name``) is optional; the part of a name before ``::`` is its group.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelstack.errors import InputProblems, UserError
from labelstack.formats.collector import collector_paused
from labelstack.formats.json_file import found, load_list, load_object, records_of
from labelstack.formats.records import (
    INT32_MAX,
    AllowedLabels,
    Images,
    cross_check,
    parse_id,
    read_annotations,
    read_images,
)

SPLITS = ("train", "validation", "test")
ANNOTATED = ("train", "validation")


@dataclass(frozen=True)
class Dataset:
    """A whole data set.

    Attributes
    ----------
    manifests : split -> DataFrame[image_id int64, url list of str, label_id list of int (None in test)]
    labels : DataFrame[label_id int32, name, group, n_train, n_validation], ascending by label_id
    counts : what was read, for metrics
    """

    manifests: dict[str, pd.DataFrame]
    labels: pd.DataFrame
    counts: dict[str, Any]


@collector_paused()
def read_dataset(root: str | Path, label_ids: tuple[int, int] | None = None) -> Dataset:
    """Read and check all files of a data set.

    Parameters
    ----------
    root : folder with train.json, validation.json, test.json and, optionally, labels.csv
    label_ids : first and last label id (inclusive) that may occur; ``None`` when labels.csv or the data decide

    Raises
    ------
    InputProblems
        With every problem of every file: file, record number (from 0), key, what was expected, what was found.
    UserError
        When ``label_ids`` is not a range.
    """
    root = Path(root)
    declared = _declared(label_ids)
    problems: list[str] = []
    names = _read_label_names(root / "labels.csv", declared, problems)
    allowed = _allowed(names, declared)
    manifests, repeated, ignored = {}, 0, 0
    for split in SPLITS:
        content = load_object(root / f"{split}.json", problems)
        if content is None:
            continue
        if split in ANNOTATED:
            manifests[split], repeated_here = _read_split(content, f"{split}.json", allowed, problems)
            repeated += repeated_here
        else:
            manifests[split] = _read_test(content, f"{split}.json", problems)
            ignored = len(records_of(content, "annotations", f"{split}.json") or ())
        del content  # a million records: do not hold two splits at once
    labels = _label_table(manifests, names, declared)
    if not problems and labels.empty:
        problems.append("train.json, validation.json: annotations: expected at least one label, found none")
    if problems:
        raise InputProblems(str(root), problems)
    return Dataset(manifests, labels, _counts(manifests, labels, repeated, ignored))


@collector_paused()
def read_answers(path: str | Path, labels: pd.DataFrame) -> pd.DataFrame:
    """True labels of test images, ``{"annotations": [{"image_id", "label_id"}]}``.

    Parameters
    ----------
    labels : the label table; only its ids may occur

    Returns
    -------
    DataFrame[image_id int64, label_id list of int], in the file's order

    Raises
    ------
    InputProblems
        With every problem of the file.
    """
    path = Path(path)
    problems: list[str] = []
    allowed = AllowedLabels(frozenset(labels["label_id"].tolist()), "a label of the data set")
    content = load_object(path, problems)
    records = None if content is None else load_list(content, "annotations", path.name, problems)
    annotations = read_annotations(records or [], path.name, allowed, problems)
    if records is not None and not len(records):
        problems.append(f"{path.name}: annotations: expected at least one record, found an empty list")
    if problems:
        raise InputProblems(str(path), problems)
    return _frame(list(annotations.label_id), label_id=list(annotations.label_id.values()))


def _declared(label_ids: tuple[int, int] | None) -> range | None:
    if label_ids is None:
        return None
    first, last = label_ids
    if not 0 <= first <= last <= INT32_MAX:
        raise UserError(
            f"dataset.label_ids: expected [first, last] with 0 ≤ first ≤ last ≤ {INT32_MAX}, found [{first}, {last}]"
        )
    return range(first, last + 1)


def _allowed(names: dict[int, str] | None, declared: range | None) -> AllowedLabels:
    if names is not None:
        return AllowedLabels(frozenset(names), "a label of labels.csv")
    if declared is not None:
        return AllowedLabels(declared, f"a label id of {declared[0]}…{declared[-1]} (dataset.label_ids)")
    return AllowedLabels()


def _read_split(
    content: Mapping[str, Any], file: str, allowed: AllowedLabels, problems: list[str]
) -> tuple[pd.DataFrame, int]:
    """Manifest of an annotated split and the number of repeated labels."""
    image_records = load_list(content, "images", file, problems)
    annotation_records = load_list(content, "annotations", file, problems)
    images = Images() if image_records is None else read_images(image_records, file, problems)
    annotations = read_annotations(annotation_records or [], file, allowed, problems)
    if image_records is not None and annotation_records is not None:
        cross_check(images, annotations, file, problems)
    labels = [annotations.label_id.get(image_id) for image_id in images.image_id]
    return _frame(images.image_id, url=images.url, label_id=labels), annotations.repeated


def _read_test(content: Mapping[str, Any], file: str, problems: list[str]) -> pd.DataFrame:
    records = load_list(content, "images", file, problems)
    images = Images() if records is None else read_images(records, file, problems)
    return _frame(images.image_id, url=images.url, label_id=[None] * len(images.image_id))


def _frame(image_id: list[int], **columns: list[Any]) -> pd.DataFrame:
    content: dict[str, Any] = {"image_id": np.array(image_id, dtype=np.int64)}
    content |= {name: pd.Series(values, dtype=object) for name, values in columns.items()}
    return pd.DataFrame(content)


def _label_table(
    manifests: dict[str, pd.DataFrame], names: dict[int, str] | None, declared: range | None
) -> pd.DataFrame:
    """Labels of labels.csv, else of the declared range, else those that occur, with their frequencies."""
    counted = {}
    for split in ANNOTATED:
        rows = manifests[split]["label_id"].tolist() if split in manifests else []
        counted[split] = Counter(chain.from_iterable(row for row in rows if row is not None))
    if names is not None:
        ids = sorted(names)
    elif declared is not None:
        ids = list(declared)
    else:
        ids = sorted(counted["train"].keys() | counted["validation"].keys())
    name = [names[i] if names is not None else f"label {i}" for i in ids]
    return pd.DataFrame(
        {
            "label_id": np.array(ids, dtype=np.int32),
            "name": pd.Series(name, dtype="str"),
            "group": pd.Series([text.split("::", 1)[0] if "::" in text else "" for text in name], dtype="str"),
            "n_train": np.array([counted["train"][i] for i in ids], dtype=np.int64),
            "n_validation": np.array([counted["validation"][i] for i in ids], dtype=np.int64),
        }
    )


def _counts(manifests: dict[str, pd.DataFrame], labels: pd.DataFrame, repeated: int, ignored: int) -> dict[str, Any]:
    assigned = {"train": int(labels["n_train"].sum()), "validation": int(labels["n_validation"].sum())}
    return {
        "images": {split: len(manifests[split]) for split in SPLITS},
        "labels": len(labels),
        "labels_per_image": {split: round(assigned[split] / len(manifests[split]), 4) for split in ANNOTATED},
        "labels_without_train_image": int((labels["n_train"] == 0).sum()),
        "repeated_labels_dropped": repeated,
        "test_annotations_ignored": ignored,
    }


def _read_label_names(path: Path, declared: range | None, problems: list[str]) -> dict[int, str] | None:
    """Names by label id, ``None`` without the file; problems name the line."""
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        problems.append(f"labels.csv: expected UTF-8 text, found another byte at position {error.start}")
        return None
    except (csv.Error, OSError) as error:
        problems.append(f"labels.csv: not readable as CSV ({error})")
        return None
    if not rows or rows[0][1] != ["label_id", "name"]:
        header = found(",".join(rows[0][1])) if rows else "an empty file"
        problems.append(f"labels.csv: line 1: expected the header label_id,name, found {header}")
        return None
    names: dict[int, str] = {}
    used: dict[str, int] = {}
    wanted = f"an integer of {declared[0]}…{declared[-1]}" if declared else f"an integer of 0…{INT32_MAX}"
    for line, row in rows[1:]:
        where = f"labels.csv: line {line}"
        if len(row) != 2:
            problems.append(f"{where}: expected two fields (label_id,name), found {len(row)}")
            continue
        label, name = parse_id(row[0], INT32_MAX), row[1].strip()
        if label is None or (declared is not None and label not in declared):
            problems.append(f"{where}: label_id: expected {wanted}, found {found(row[0])}")
        elif label in names:
            problems.append(f"{where}: label_id: expected each id once, found {label} again")
        elif not name:
            problems.append(f"{where}: name: expected text, found none")
        elif name in used:
            problems.append(f"{where}: name: expected each name once, found {found(name)} on line {used[name]} too")
        if label is not None:
            names.setdefault(label, name)
            used.setdefault(name, line)
    if not rows[1:]:
        problems.append("labels.csv: expected at least one label, found only the header")
    return names
