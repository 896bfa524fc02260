"""Files of iMaterialist (Fashion) 2019 at FGVC6, as Kaggle handed them out: instances with masks and attributes.

``train.csv`` has a row for each instance: ``ImageId`` (``0004.jpg``), ``EncodedPixels`` (runs), ``Height``, ``Width``
and ``ClassId``, a category and, with ``_`` between, its attributes. What they are says ``label_descriptions.json``, or,
for categories alone, ``label_list.csv`` (``id,name``). The files of 2020 are read too: there the column
``AttributesIds`` has the attributes, ids of photos lack ``.jpg``, ids of attributes have gaps. Test photos are those of
``sample_submission.csv`` or another file with ``ImageId``.

An image is a photo; its labels, the image-level reading, are the categories of its instances, their attributes, or
both. The instances themselves become the table ``instances.parquet`` beside the manifests. There are no validation
images: as in `imet2019`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from labelstack.formats.collector import collector_paused
from labelstack.formats.csv_file import read_csv
from labelstack.formats.format import CompetitionData, Draw
from labelstack.formats.instance_batches import instance_table
from labelstack.formats.instance_labels import DESCRIPTIONS, LIST, InstanceLabels, read_instance_labels
from labelstack.formats.instance_rows import IMAGE, SUFFIX, InstanceRows, read_instance_rows
from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems
from labelstack.formats.shared import shared_counts
from labelstack.formats.submission import Form, Texts
from labelstack.formats.table_images import Files, file_url
from labelstack.formats.text_id import text_ids
from labelstack.formats.text_submission import write_texts
from labelstack.params.dataset import DatasetSection, InstancesSection
from labelstack.params.folds import FoldsSection
from labelstack.support.errors import InputProblems, UserError

_LABELS = "labels"
_BETWEEN = "|"  # names have commas in them


class Imaterialist2019Format:
    """The format `imaterialist2019`.

    Parameters
    ----------
    section : ``dataset.instances``
    root : ``dataset.root``, where ``answers`` finds what the ids mean
    drawn : a share of train is drawn as validation afterwards, so that no empty split stands in for it
    """

    REQUIRED: Sequence[str] = (
        "train.csv",
        f"{DESCRIPTIONS} or {LIST}",
        "sample_submission.csv",
        "train/<ImageId>",
        "test/<ImageId>",
    )
    OPTIONAL: Mapping[str, str] = {}

    def __init__(self, section: InstancesSection | None = None, root: str | Path = "", drawn: bool = False) -> None:
        self._section, self._root, self._drawn = section or InstancesSection(), Path(root), drawn

    def configured(
        self, dataset: DatasetSection, draw: Draw | None = None, folds: FoldsSection | None = None
    ) -> Imaterialist2019Format:
        """The format for other sections: names of the files, and whether validation images are drawn."""
        return Imaterialist2019Format(dataset.instances, dataset.root, dataset.validation > 0)

    def missing_files(self, root: str | Path) -> list[str]:
        """A sentence for each file and folder that is not there; nothing is read."""
        root, own = Path(root), self._section
        if not root.is_dir():
            what = "is a file" if root.exists() else "there is no such folder yet"
            return [f"{root}: {what}; it is to hold {own.train}, {DESCRIPTIONS} or {LIST}, {own.test} and the photos"]
        keys = {own.train: "train", own.test: "test"}
        missing = [
            f"{root / file}: missing (dataset.instances.{key} names it)"
            for file, key in keys.items()
            if not (root / file).is_file()
        ]
        if not any((root / name).is_file() for name in (DESCRIPTIONS, LIST)):
            missing.append(f"{root / DESCRIPTIONS}: missing, and so is {LIST}, which may stand for it")
        folders = {own.train_photos: "train_photos", own.test_photos: "test_photos"}
        return missing + [
            f"{root / folder}: missing, a folder of photos (dataset.instances.{key} names it)"
            for folder, key in folders.items()
            if not (root / folder).is_dir()
        ]

    @collector_paused()
    def read(self, root: str | Path, label_ids: tuple[int, int] | None = None, folds: int = 0) -> CompetitionData:
        """Read and check all files: runs inside their photos, categories and attributes known, photos there.

        Parameters
        ----------
        root : ``dataset.root``
        label_ids : None: label_descriptions.json says
        folds : 0: base models have folds of train, and the validation split is empty

        Raises
        ------
        InputProblems
            With every problem of every file: file, line, column, what was expected, what was found.
        """
        if label_ids is not None:
            raise UserError(f"dataset.label_ids: must be null for imaterialist2019, whose labels {DESCRIPTIONS} says")
        root, own, problems = Path(root), self._section, list[str]()
        kinds = read_instance_labels(root, problems)
        if kinds is not None and own.labels == "attributes" and not kinds.attributes:
            problems.append(f"{kinds.file}: has no attributes: dataset.instances.labels must be categories")
        if kinds is None or problems:
            raise InputProblems(str(root), problems)
        rows = read_instance_rows(root, own.train, own.train_photos, kinds, problems, clip=own.outside == "clip")
        test = _test_names(root, own.test, own.test_photos, rows.short, problems)
        ids = {} if problems else {"train": text_ids(rows.names, problems), "test": text_ids(test, problems)}
        sets = _sets(rows, kinds, own.labels)
        if not problems and not any(sets):
            problems.append(f"{own.train}: expected at least one label, found none of dataset.instances.labels")
        if problems:
            raise InputProblems(str(root), problems)
        manifests = {
            "train": _manifest(ids["train"], rows.names, own.train_photos, sets),
            "test": _manifest(ids["test"], test, own.test_photos, [None] * len(test)),
        }
        if not self._drawn and not folds:
            manifests["validation"] = manifests["train"].iloc[:0].reset_index(drop=True)
        labels = _label_table(kinds, own, sets)
        texts = Texts(test, dict(zip(labels["label_id"].tolist(), labels["name"], strict=True)), _BETWEEN)
        form = Form(ids["test"], (IMAGE, _LABELS), texts)
        instances = instance_table(rows.photo, rows.category, rows.attributes, rows.parts, ids["train"])
        return CompetitionData(manifests, labels, form, _counts(manifests, labels, rows), instances=instances)

    def answers(self, path: str | Path, labels: pd.DataFrame) -> pd.DataFrame:
        """Labels of test photos, a file like train.csv; raise ``InputProblems``.

        Parameters
        ----------
        labels : the label table
        """
        path, problems = Path(path), list[str]()
        rows, kinds = self.true_instances(path, problems)
        ids = text_ids(rows.names, problems)
        if problems or kinds is None:
            raise InputProblems(str(path), problems)
        sets = _sets(rows, kinds, self._section.labels)
        return pd.DataFrame({"image_id": ids, "label_id": pd.Series(sets, dtype=object)})

    def test_instances(self, path: Path) -> pa.Table:
        """The same as a table of instances (``masks/instance_table.py``); raise ``InputProblems``."""
        problems = list[str]()
        rows, _ = self.true_instances(path, problems)
        ids = text_ids(rows.names, problems)
        if problems:
            raise InputProblems(str(path), problems)
        return instance_table(rows.photo, rows.category, rows.attributes, rows.parts, ids)

    def true_instances(self, path: Path, problems: list[str]) -> tuple[InstanceRows, InstanceLabels | None]:
        """Instances of test photos, a file like train.csv below the data set's folder, and what their ids mean."""
        kinds = read_instance_labels(self._root, problems)
        if kinds is None:
            return InstanceRows(), None
        file = path.resolve().relative_to(self._root.resolve()).as_posix()
        return read_instance_rows(self._root, file, self._section.test_photos, kinds, problems), kinds

    def write_submission(self, path: str | Path, form: Form, labels: Sequence[Iterable[int]]) -> None:
        """Write the image-level reading, ``ImageId,labels`` with names between ``|``: no competition asks for it.

        Masks are written by ``mask_submission``.
        """
        write_texts(path, form, labels)


FORMAT = Imaterialist2019Format()


def _test_names(root: Path, file: str, folder: str, short: bool, problems: list[str]) -> list[str]:
    """Test photos in the order in which they first come; each needs its file."""
    before, told, rows = len(problems), FileProblems(file), read_csv(root / file, problems)
    if rows is None:
        problems += [] if len(problems) > before else [f"{file}: expected this file, found none"]
        return []
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    if header.count(IMAGE) != 1:
        problems.append(f"{file}: line 1: expected a column {IMAGE}, found {found(','.join(header))}")
        return []
    files, place, names = Files(root, folder), header.index(IMAGE), dict[str, None]()
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            told.add("", f"line {line}", "", f"{len(header)} fields, as many as the header has", str(len(cells)))
            continue
        name = cells[place].strip() + (SUFFIX if short else "")
        if name in names:
            continue
        names[name] = None
        if name not in files.there:
            near = f" ({name}{SUFFIX} is there)" if f"{name}{SUFFIX}" in files.there else ""
            told.add(
                "", f"line {line}", IMAGE, f"a photo in {files.prefix}, its name with {SUFFIX}", found(name) + near
            )
    problems += told.sentences()
    if not names and not told:
        problems.append(f"{file}: expected at least one row, found only the header")
    return list(names)


def _sets(rows: InstanceRows, kinds: InstanceLabels, what: str) -> list[list[int]]:
    """Label ids of each photo, ascending."""
    shift = kinds.first_attribute if what == "both" else 0
    sets: list[set[int]] = [set() for _ in rows.names]
    for photo, category, attributes in zip(rows.photo, rows.category, rows.attributes, strict=True):
        if what != "attributes":
            sets[photo].add(category)
        if attributes and what != "categories":
            sets[photo].update(attribute + shift for attribute in attributes)
    return [sorted(labels) for labels in sets]


def _manifest(image_id: NDArray[np.int64], names: list[str], folder: str, sets: Sequence[Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": image_id,
            "url": pd.Series([[file_url(f"{folder}/{name}")] for name in names], dtype=object),
            "label_id": pd.Series(list(sets), dtype=object),
            "name": pd.Series(names, dtype="str"),
        }
    )


def _label_table(kinds: InstanceLabels, own: InstancesSection, sets: list[list[int]]) -> pd.DataFrame:
    named, seen = kinds.of_photos(own.labels), Counter(chain.from_iterable(sets))
    return pd.DataFrame(
        {
            "label_id": np.array(list(named), np.int32),
            "name": pd.Series([name for name, _ in named.values()], dtype="str"),
            "group": pd.Series([group for _, group in named.values()], dtype="str"),
            "n_train": np.array([seen[label] for label in named], np.int64),
            "n_validation": np.zeros(len(named), np.int64),
        }
    )


def _counts(manifests: dict[str, pd.DataFrame], labels: pd.DataFrame, rows: InstanceRows) -> dict[str, Any]:
    with_attributes = sum(map(bool, rows.attributes))
    return {
        "images": {split: len(manifest) for split, manifest in manifests.items()},
        "labels": len(labels),
        "labels_per_image": {"train": round(int(labels["n_train"].sum()) / len(manifests["train"]), 4)},
        "labels_without_train_image": int((labels["n_train"] == 0).sum()),
        "labels_without_validation_image": len(labels),
        "instances": {"train": len(rows.photo)},
        "instances_with_attributes": {"train": with_attributes},
        "instances_clipped": {"train": rows.clipped},
        "shared": shared_counts(manifests),
    }
