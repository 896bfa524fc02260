"""Files of the iMaterialist Challenge (Fashion) at FGVC5, 2018, read into manifests and a label table.

``train.json`` and ``validation.json`` hold ``{"images": [{"imageId", "url"}], "annotations": [{"imageId",
"labelId"}]}``, ``test.json`` images only; ``image_id`` and ``label_id``, as the competition's page has it, are the
same, but not in the same file. Ids may be integers or strings of digits, ``url`` a string or a list, labels a list or
one; keys beside these are ignored. Ids are unique inside one split only. Annotations in ``test.json`` are never used:
they are counted and left unread.

Without ``validation.json`` a share of train can be drawn (``dataset.validation``): ``configured`` is for that.

``labels.csv`` (the published label map, or ``label_id,name``) and ``sample_submission.csv`` are optional.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from labelstack.formats.collector import collector_paused
from labelstack.formats.format import CompetitionData, Draw, Format
from labelstack.formats.json_file import load_list, load_object, records_of
from labelstack.formats.label_table import LabelName, read_label_table
from labelstack.formats.problems import FileProblems
from labelstack.formats.reading import LABEL_TABLE, SAMPLE_SUBMISSION
from labelstack.formats.reading import OPTIONAL as OPTIONAL
from labelstack.formats.reading import REQUIRED as REQUIRED
from labelstack.formats.reading import missing_files as missing_files
from labelstack.formats.records import INT32_MAX, AllowedLabels, Images, cross_check, read_annotations, read_images
from labelstack.formats.sample_submission import read_sample
from labelstack.formats.shared import shared_counts
from labelstack.formats.spelling import Spelling
from labelstack.formats.submission import write_submission as write_submission
from labelstack.params.dataset import DatasetSection
from labelstack.params.folds import FoldsSection
from labelstack.support.errors import InputProblems, UserError

SPLITS = ("train", "validation", "test")
ANNOTATED = ("train", "validation")


@collector_paused()
def read(
    root: str | Path, label_ids: tuple[int, int] | None = None, folds: int = 0, *, given: Sequence[str] = ANNOTATED
) -> CompetitionData:
    """Read and check all files of a data set.

    Parameters
    ----------
    root : folder with train.json, validation.json, test.json and, optionally, labels.csv and sample_submission.csv
    label_ids : first and last label id (inclusive) that may occur; ``None`` when labels.csv or the data decide
    folds : so many folds the validation images will be dealt to, at least one to each
    given : splits with answers that have a file; others must have none

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
    names = read_label_table(root / LABEL_TABLE, declared, problems)
    allowed = _allowed(names, declared)
    manifests, repeated, ignored = {}, 0, 0
    for split in given:
        content = load_object(root / f"{split}.json", problems)
        if content is not None:
            least = folds if split == "validation" else 0
            manifests[split], repeated_here = _read_split(content, f"{split}.json", allowed, least, problems)
            repeated += repeated_here
    problems += [_two_ways(root / f"{split}.json") for split in ANNOTATED if split not in given and _there(root, split)]
    before = len(problems)
    content = load_object(root / "test.json", problems)
    if content is not None:
        ignored = len(records_of(content, "annotations", "test.json") or ())
        manifests["test"] = _read_test(content, "test.json", problems)
    test_id = manifests["test"]["image_id"].tolist() if len(problems) == before else None
    form = read_sample(root / SAMPLE_SUBMISSION, test_id, problems)
    if problems:
        raise InputProblems(str(root), problems)
    labels = _label_table(manifests, names, declared)
    return CompetitionData(manifests, labels, form, _counts(manifests, labels, repeated, ignored))


@collector_paused()
def answers(path: str | Path, labels: pd.DataFrame) -> pd.DataFrame:
    """True labels of test images, ``{"annotations": [{"imageId", "labelId"}]}``, in either spelling.

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
    here, spelling = FileProblems(path.name), Spelling(records)
    annotations = read_annotations(records or [], spelling, allowed, here)
    problems += _told(here, spelling)
    if records is not None and not len(records):
        problems.append(f"{path.name}: annotations: expected at least one record, found an empty list")
    if problems:
        raise InputProblems(str(path), problems)
    return _frame(list(annotations.index), label_id=annotations.label_id)


class _WithoutValidation:
    """The same files without validation.json, whose images somebody draws from train."""

    REQUIRED = tuple(name for name in REQUIRED if not name.startswith("validation"))
    OPTIONAL = OPTIONAL
    answers = staticmethod(answers)
    write_submission = staticmethod(write_submission)

    def missing_files(self, root: str | Path) -> list[str]:
        """As of the module."""
        return missing_files(root, self.REQUIRED)

    def read(self, root: str | Path, label_ids: tuple[int, int] | None = None, folds: int = 0) -> CompetitionData:
        """As of the module, with manifests of train and test alone."""
        return read(root, label_ids, folds, given=("train",))


def configured(dataset: DatasetSection, draw: Draw | None = None, folds: FoldsSection | None = None) -> Format:
    """The format for other params: ``dataset.validation`` says whether there is a file of validation images."""
    return cast(Format, _WithoutValidation() if dataset.validation else sys.modules[__name__])


def _there(root: Path, split: str) -> bool:
    return (root / f"{split}.json").exists()


def _two_ways(path: Path) -> str:
    return (
        f"{path.name}: is there, and dataset.validation draws such a split from train: set it to 0, or move the file "
        "away"
    )


def _declared(label_ids: tuple[int, int] | None) -> range | None:
    if label_ids is None:
        return None
    first, last = label_ids
    if not 0 <= first <= last <= INT32_MAX:
        raise UserError(
            f"dataset.label_ids: expected [first, last] with 0 ≤ first ≤ last ≤ {INT32_MAX}, found [{first}, {last}]"
        )
    return range(first, last + 1)


def _allowed(names: dict[int, LabelName] | None, declared: range | None) -> AllowedLabels:
    if names is not None:
        return AllowedLabels(frozenset(names), "a label of labels.csv")
    if declared is not None:
        return AllowedLabels(declared, f"a label id of {declared[0]}…{declared[-1]} (dataset.label_ids)")
    return AllowedLabels()


def _read_split(
    content: dict[str, Any], file: str, allowed: AllowedLabels, least: int, problems: list[str]
) -> tuple[pd.DataFrame, int]:
    """Manifest of an annotated split and the number of repeated labels; ``content`` is used up."""
    before = len(problems)
    sections = {key: load_list(content, key, file, problems) for key in ("images", "annotations")}
    content.clear()
    both = all(records is not None for records in sections.values())
    here, spelling = FileProblems(file), Spelling(*sections.values())
    images = Images()
    if sections["images"] is not None:
        _enough(len(sections["images"]), file, least, problems)
        # A million records: those that were read are let go before the others are.
        images = read_images(sections.pop("images") or [], spelling, here)
    annotations = read_annotations(sections.pop("annotations") or [], spelling, allowed, here)
    if both:
        cross_check(images, annotations, spelling, here)
    problems += _told(here, spelling)
    labels = [annotations.of(image_id) for image_id in images.image_id]
    if len(problems) == before and not any(labels):
        problems.append(_no_label(file, len(labels)))
    return _frame(images.image_id, url=images.url, label_id=labels), annotations.repeated


def _read_test(content: dict[str, Any], file: str, problems: list[str]) -> pd.DataFrame:
    records = load_list(content, "images", file, problems)
    here, spelling = FileProblems(file), Spelling(records)
    if records is not None:
        _enough(len(records), file, 0, problems)
    images = read_images(records or [], spelling, here)
    problems += _told(here, spelling)
    return _frame(images.image_id, url=images.url, label_id=[None] * len(images.image_id))


def _told(here: FileProblems, spelling: Spelling) -> list[str]:
    mixture = spelling.mixture()
    return ([f"{here.file}: {mixture}"] if mixture else []) + here.sentences()


def _enough(count: int, file: str, least: int, problems: list[str]) -> None:
    """At least one image, and one for each fold."""
    if not count:
        problems.append(f"{file}: images: expected at least one record, found an empty list")
    elif count < least:
        lower = f", or set folds.k to {count} or less" if count > 1 else " (folds.k is at least 2)"
        problems.append(
            f"{file}: images: expected at least {least}, one for each fold (folds.k in params.yaml), found {count}: "
            f"give it more images, for example some of train.json{lower}"
        )


def _no_label(file: str, count: int) -> str:
    use = "nothing can be learned" if file.startswith("train") else "nothing can be scored or chosen by them"
    images = "the only image has none" if count == 1 else f"none of the {count:,} images has one"
    return f"{file}: annotations: expected at least one label, found none: {images}, so {use}; label some of them"


def _frame(image_id: list[int], **columns: list[Any]) -> pd.DataFrame:
    content: dict[str, Any] = {"image_id": np.array(image_id, dtype=np.int64)}
    content |= {name: pd.Series(values, dtype=object) for name, values in columns.items()}
    return pd.DataFrame(content)


def _label_table(
    manifests: dict[str, pd.DataFrame], names: dict[int, LabelName] | None, declared: range | None
) -> pd.DataFrame:
    """Labels of labels.csv, else of the declared range, else those that occur, with their frequencies."""
    counted = {split: Counter(chain.from_iterable(_labels(manifests, split))) for split in ANNOTATED}
    if names is not None:
        ids = sorted(names)
    elif declared is not None:
        ids = list(declared)
    else:
        ids = sorted(counted["train"].keys() | counted["validation"].keys())
    called = [names[i] if names is not None else LabelName(f"label {i}", "") for i in ids]
    return pd.DataFrame(
        {
            "label_id": np.array(ids, dtype=np.int32),
            "name": pd.Series([label.name for label in called], dtype="str"),
            "group": pd.Series([label.group for label in called], dtype="str"),
            "n_train": np.array([counted["train"][i] for i in ids], dtype=np.int64),
            "n_validation": np.array([counted["validation"][i] for i in ids], dtype=np.int64),
        }
    )


def _labels(manifests: dict[str, pd.DataFrame], split: str) -> Iterable[list[int]]:
    return manifests[split]["label_id"] if split in manifests else []


def _counts(manifests: dict[str, pd.DataFrame], labels: pd.DataFrame, repeated: int, ignored: int) -> dict[str, Any]:
    assigned = {"train": int(labels["n_train"].sum()), "validation": int(labels["n_validation"].sum())}
    return {
        "images": {split: len(manifests[split]) for split in SPLITS if split in manifests},
        "labels": len(labels),
        "labels_per_image": {
            split: round(assigned[split] / len(manifests[split]), 4) for split in ANNOTATED if split in manifests
        },
        "labels_without_train_image": int((labels["n_train"] == 0).sum()),
        "labels_without_validation_image": int((labels["n_validation"] == 0).sum()),
        "repeated_labels_dropped": repeated,
        "test_annotations_ignored": ignored,
        "shared": shared_counts(manifests),
    }
