"""Rows of a table as a data set: manifests, label table, submission form, answers and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.formats.format import CompetitionData
from labelstack.formats.shared import shared_counts
from labelstack.formats.submission import Form, Texts
from labelstack.formats.table_images import TableImages
from labelstack.formats.table_labels import TableLabels
from labelstack.formats.table_splits import SPLITS, TEST, VALIDATION


@dataclass
class TableRows:
    """Rows of all files, one file after another.

    Attributes
    ----------
    splits : an array for each file
    further : key of ``folds`` -> cells of the column that it names
    """

    images: TableImages
    labels: TableLabels
    splits: list[NDArray[np.int8]] = field(default_factory=list)
    further: dict[str, list[str]] = field(default_factory=dict)

    @property
    def split(self) -> NDArray[np.int8]:
        """int8 [n], places in ``SPLITS``."""
        return np.concatenate(self.splits) if self.splits else np.zeros(0, np.int8)


def competition_data(
    rows: TableRows,
    image_id: NDArray[np.int64],
    split: NDArray[np.int8],
    sets: list[list[int]],
    names: list[str],
    header: tuple[str, str],
    separator: str,
    further: Mapping[str, str],
) -> CompetitionData:
    """The data set of rows in which nothing is wrong.

    Parameters
    ----------
    image_id : int64 [n]
    split : int8 [n], places in ``SPLITS``, none of them without rows
    sets : ascending label ids of each row, places in ``names``
    names : of the labels, ascending
    header, separator : of the submission
    further : key of ``folds`` -> the column that it names
    """
    whole = {
        "image_id": image_id,
        "url": _objects([[url] for url in rows.images.urls]),
        "label_id": _objects(sets),
        "name": _objects(rows.images.names),
    }
    manifests = {
        name: pd.DataFrame({key: column[split == number] for key, column in whole.items()})
        for number, name in enumerate(SPLITS)
    }
    test = manifests["test"]
    # A row that was drawn says all; in a test split that people made, no label means that nobody knows.
    made = (rows.split == TEST).any()
    known = test["label_id"].map(bool).to_numpy(bool) if made else np.ones(len(test), bool)
    answers = test.loc[known, ["image_id", "label_id"]].reset_index(drop=True)
    manifests["test"] = test.assign(label_id=pd.Series([None] * len(test), dtype=object))
    labels = _label_table(manifests, names)
    form = Form(test["image_id"].to_numpy(), header, Texts(test["name"].tolist(), dict(enumerate(names)), separator))
    counts = _counts(manifests, labels, answers, rows)
    columns = {
        name: {column: _objects(rows.further[key])[split == number].tolist() for key, column in further.items()}
        for number, name in enumerate(SPLITS)
        if number != TEST
    }
    return CompetitionData(manifests, labels, form, counts, answers, columns if further else {})


def _objects(values: list[Any]) -> NDArray[Any]:
    return pd.Series(values, dtype=object).to_numpy()


def too_few(rows: TableRows, split: NDArray[np.int8], sets: list[list[int]], folds: int) -> list[str]:
    """A sentence for each split, int8 [n], that nothing can be done with; ``folds`` as of reading."""
    told, labelled = [], np.fromiter(map(bool, sets), bool, len(sets))
    drawn = [number for number in (VALIDATION, TEST) if not (rows.split == number).any()]
    for number, name in enumerate(SPLITS):
        mine, least = split == number, folds if number == VALIDATION else 1
        count = int(mine.sum())
        key = {VALIDATION: "validation", TEST: "test"}.get(number, "")
        more = f"; raise dataset.table.{key}, or give it more rows" if number in drawn else "; give it more rows"
        if count < max(least, 1):
            each = " (folds.k in params.yaml: one for each fold)" if number == VALIDATION else ""
            told.append(f"{name}: expected at least {max(least, 1)} images{each}, found {count} of {len(sets)}{more}")
        elif number != TEST and not labelled[mine].any():
            told.append(f"{name}: expected at least one label, found none on {count:,} images; label some of them")
    return told


def _label_table(manifests: dict[str, pd.DataFrame], names: list[str]) -> pd.DataFrame:
    def counted(split: str) -> NDArray[np.int64]:
        flat = [label for labels in manifests[split]["label_id"] for label in labels]
        return np.bincount(np.array(flat, np.int64), minlength=len(names)).astype(np.int64)

    groups = [name.split("::", 1)[0] if "::" in name else "" for name in names]
    return pd.DataFrame(
        {
            "label_id": np.arange(len(names), dtype=np.int32),
            "name": pd.Series(names, dtype="str"),
            "group": pd.Series(groups, dtype="str"),
            "n_train": counted("train"),
            "n_validation": counted("validation"),
        }
    )


def _counts(
    manifests: dict[str, pd.DataFrame], labels: pd.DataFrame, answers: pd.DataFrame, rows: TableRows
) -> dict[str, Any]:
    assigned = {split: int(labels[f"n_{split}"].sum()) for split in ("train", "validation")}
    return {
        "images": {split: len(manifest) for split, manifest in manifests.items()},
        "labels": len(labels),
        "labels_per_image": {split: round(n / len(manifests[split]), 4) for split, n in assigned.items()},
        "labels_without_train_image": int((labels["n_train"] == 0).sum()),
        "labels_without_validation_image": int((labels["n_validation"] == 0).sum()),
        "images_without_label": {
            split: int((~manifests[split]["label_id"].map(bool).astype(bool)).sum()) for split in assigned
        },
        "repeated_labels_dropped": rows.labels.repeated,
        "test_images_with_answers": len(answers),
        "drawn": [SPLITS[i] for i in (VALIDATION, TEST) if not (rows.split == i).any()],
        "shared": shared_counts(manifests),
    }
