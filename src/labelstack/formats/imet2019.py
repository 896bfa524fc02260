"""Files of iMet Collection 2019 at FGVC6, as Kaggle handed them out.

``train.csv`` (``id,attribute_ids``), ``labels.csv`` (``attribute_id,attribute_name``, names such as ``tag::horse``),
``sample_submission.csv``, whose ids are the test images, and the images ``train/<id>.png`` and ``test/<id>.png``.

An id is a text: up to 16 hex digits without a leading zero, some of which look like numbers (``4457884375734e12``).
Inside it is a digest of that text, as in the format `table`. Attributes stay in the order in which a row names them,
which ``folds.method: rarest_first`` goes by. There are no validation images: ``dataset.validation`` draws some, or
base models have a network for each fold of train and the split is empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelstack.formats.collector import collector_paused
from labelstack.formats.csv_file import read_csv
from labelstack.formats.format import CompetitionData, Draw
from labelstack.formats.imet_images import IdCheck, image_url
from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems
from labelstack.formats.records import INT32_MAX, parse_id
from labelstack.formats.shared import shared_counts
from labelstack.formats.submission import Form, Texts
from labelstack.formats.text_id import text_ids
from labelstack.formats.text_submission import write_texts
from labelstack.params.dataset import DatasetSection
from labelstack.params.folds import FoldsSection
from labelstack.support.errors import InputProblems, UserError

TRAIN, LABELS, SAMPLE = "train.csv", "labels.csv", "sample_submission.csv"
HEADER = ("id", "attribute_ids")
_LABEL_HEADER = ("attribute_id", "attribute_name")
_SHOWN = 5
Rows = list[tuple[int, list[str]]]


class Imet2019Format:
    """The format `imet2019`.

    Parameters
    ----------
    drawn : a share of train is drawn as validation afterwards, so that no empty split stands in for it
    """

    REQUIRED: Sequence[str] = (TRAIN, LABELS, SAMPLE, "train/<id>.png", "test/<id>.png")
    OPTIONAL: Mapping[str, str] = {}

    def __init__(self, drawn: bool = False) -> None:
        self._drawn = drawn

    def configured(
        self, dataset: DatasetSection, draw: Draw | None = None, folds: FoldsSection | None = None
    ) -> Imet2019Format:
        """The format for other sections: ``dataset.validation`` says whether validation images are drawn."""
        return Imet2019Format(dataset.validation > 0)

    def missing_files(self, root: str | Path) -> list[str]:
        """A sentence for each file and folder that is not there; nothing is read."""
        root = Path(root)
        if not root.is_dir():
            what = "is a file" if root.exists() else "there is no such folder yet"
            return [f"{root}: {what}; it is to hold {', '.join(self.REQUIRED)}"]
        missing = [f"{root / name}: missing" for name in (TRAIN, LABELS, SAMPLE) if not (root / name).is_file()]
        folders = [name for name in ("train", "test") if not (root / name).is_dir()]
        return missing + [f"{root / name}: missing, the folder of the images <id>.png" for name in folders]

    @collector_paused()
    def read(self, root: str | Path, label_ids: tuple[int, int] | None = None, folds: int = 0) -> CompetitionData:
        """Read and check all files, and that each image has a file and each file a row.

        Parameters
        ----------
        root : ``dataset.root``
        label_ids : None: ``labels.csv`` says
        folds : 0: base models have folds of train, and the validation split is empty

        Raises
        ------
        InputProblems
            With every problem of every file: file, line, column, what was expected, what was found.
        """
        if label_ids is not None:
            raise UserError(f"dataset.label_ids: must be null for imet2019, whose {LABELS} says which labels there are")
        root, problems = Path(root), list[str]()
        names = _read_names(root / LABELS, problems)
        known = None if names is None else {str(label): label for label in range(len(names))}
        train_ids, sets, repeated = _read_rows(root, TRAIN, "train", known, problems)
        test_ids, _, _ = _read_rows(root, SAMPLE, "test", None, problems)
        ids = {"train": train_ids, "test": test_ids}
        if not problems:
            image_id = {split: text_ids(texts, problems) for split, texts in ids.items()}
        if problems or names is None:
            raise InputProblems(str(root), problems)
        rows: dict[str, list[Any]] = {"train": sets, "test": [None] * len(test_ids)}
        manifests = {split: _manifest(split, image_id[split], ids[split], rows[split]) for split in ids}
        if not self._drawn and not folds:
            manifests["validation"] = manifests["train"].iloc[:0].reset_index(drop=True)
        labels = _label_table(names, sets)
        texts = Texts(test_ids, {label: str(label) for label in range(len(names))}, " ")
        counts = _counts(manifests, labels, repeated)
        return CompetitionData(manifests, labels, Form(image_id["test"], HEADER, texts), counts)

    def answers(self, path: str | Path, labels: pd.DataFrame) -> pd.DataFrame:
        """True labels of test images, a file like train.csv in which a row may have none; raise ``InputProblems``.

        Parameters
        ----------
        labels : the label table; only its ids may occur
        """
        path, problems = Path(path), list[str]()
        rows, told = _lines(path, HEADER, problems), FileProblems(path.name)
        known = {str(label): label for label in labels["label_id"].tolist()}
        lines, sets = dict[str, int](), list[list[int]]()
        for line, (name, cell) in _pairs(rows, told):
            if lines.setdefault(name, line) != line:
                told.add("", f"line {line}", "id", "each image once", f"{name} on line {lines[name]} too")
            sets.append(_attributes(cell, line, known, told)[0])
        problems += told.sentences()
        ids = text_ids(list(lines), problems)
        if problems:
            raise InputProblems(str(path), problems)
        return pd.DataFrame({"image_id": ids, "label_id": pd.Series(sets, dtype=object)})

    def write_submission(self, path: str | Path, form: Form, labels: Sequence[Iterable[int]]) -> None:
        """Write ``id,attribute_ids`` with attribute ids ascending and space-delimited, blank when none."""
        write_texts(path, form, labels)


FORMAT = Imet2019Format()


def _lines(path: Path, header: tuple[str, ...], problems: list[str]) -> Rows:
    """The lines below a file's header; none after adding a problem."""
    before = len(problems)
    rows = read_csv(path, problems)
    if rows is None:
        problems += [] if len(problems) > before else [f"{path.name}: expected this file, found none"]
        return []
    first = tuple(cell.strip() for cell in rows[0][1]) if rows else ()
    if first != header:
        what = found(",".join(rows[0][1])) if rows else "an empty file"
        problems.append(f"{path.name}: line 1: expected the header {','.join(header)}, found {what}")
        return []
    if not rows[1:]:
        problems.append(f"{path.name}: expected at least one row, found only the header")
    return rows[1:]


def _pairs(rows: Rows, told: FileProblems) -> Iterable[tuple[int, tuple[str, str]]]:
    """Line number and both cells of each line that has two."""
    for line, cells in rows:
        if len(cells) == 2:
            yield line, (cells[0].strip(), cells[1])
        else:
            told.add("", f"line {line}", "", "two fields, as the header has", str(len(cells)))


def _read_names(path: Path, problems: list[str]) -> list[str] | None:
    """Names of the labels 0, 1, …; None after adding problems."""
    before, told = len(problems), FileProblems(path.name)
    names, lines, used = dict[int, str](), dict[int, int](), dict[str, int]()
    id_key, name_key = _LABEL_HEADER
    for line, (cell, raw) in _pairs(_lines(path, _LABEL_HEADER, problems), told):
        label, name, place = parse_id(cell, INT32_MAX), raw.strip(), f"line {line}"
        group, between, value = name.partition("::")
        if label is None:
            told.add("", place, id_key, "a whole number from 0", found(cell))
            continue
        if label in names:
            told.add("", place, id_key, "each id once", f"{label} on line {lines[label]} too")
        if not (group and between and value):
            told.add("", place, name_key, "a group and a name such as tag::horse", found(name) if name else "nothing")
        elif name in used:
            told.add("", place, name_key, "each name once", f"{found(name)} on line {used[name]} too")
        names.setdefault(label, name)
        lines.setdefault(label, line)
        used.setdefault(name, line)
    problems += told.sentences()
    if len(problems) == before and (gaps := sorted(set(range(min(max(names) + 1, len(names) + 1))) - names.keys())):
        shown = ", ".join(map(str, gaps[:_SHOWN])) + (", …" if len(gaps) > _SHOWN or max(names) > len(names) else "")
        problems.append(
            f"{path.name}: {id_key}: expected every number from 0 to {max(names)}, found none for {shown}: is the file "
            "whole?"
        )
    return [names[label] for label in range(len(names))] if len(problems) == before else None


def _read_rows(
    root: Path, file: str, folder: str, known: Mapping[str, int] | None, problems: list[str]
) -> tuple[list[str], list[list[int]], int]:
    """Ids and attributes of a file's rows, each with an image below ``folder``, and how many attributes came twice.

    Parameters
    ----------
    known : what may stand for an attribute → its number; None: attributes are not read
    """
    told = FileProblems(file)
    rows = _lines(root / file, HEADER, problems)
    check = IdCheck(root, folder, file)
    ids, sets, repeated = list[str](), list[list[int]](), 0
    for line, (name, cell) in _pairs(rows, told):
        check.take(name, line, told)
        ids.append(name)
        if known is not None:
            attributes, twice = _attributes(cell, line, known, told)
            if not attributes and not cell.strip():
                told.add("", f"line {line}", HEADER[1], "at least one attribute", "an empty cell")
            sets.append(attributes)
            repeated += twice
    problems += told.sentences()
    problems += check.of_folder(bool(rows) and not told)
    return ids, sets, repeated


def _attributes(cell: str, line: int, known: Mapping[str, int], told: FileProblems) -> tuple[list[int], int]:
    """Numbers of a cell's attributes in its order, each once, and how many were dropped because they came before."""
    labels = []
    for text in cell.split():
        label = known.get(text)
        if label is None:
            told.add("", f"line {line}", HEADER[1], f"ids that {LABELS} has", found(text))
        else:
            labels.append(label)
    once = list(dict.fromkeys(labels))
    return once, len(labels) - len(once)


def _manifest(split: str, image_id: Any, ids: list[str], sets: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": image_id,
            "url": pd.Series([[image_url(split, name)] for name in ids], dtype=object),
            "label_id": pd.Series(sets, dtype=object),
            "name": pd.Series(ids, dtype="str"),
        }
    )


def _label_table(names: list[str], sets: list[list[int]]) -> pd.DataFrame:
    seen = Counter(chain.from_iterable(sets))
    return pd.DataFrame(
        {
            "label_id": np.arange(len(names), dtype=np.int32),
            "name": pd.Series(names, dtype="str"),
            "group": pd.Series([name.partition("::")[0] for name in names], dtype="str"),
            "n_train": np.array([seen[label] for label in range(len(names))], np.int64),
            "n_validation": np.zeros(len(names), np.int64),
        }
    )


def _counts(manifests: dict[str, pd.DataFrame], labels: pd.DataFrame, repeated: int) -> dict[str, Any]:
    train = manifests["train"]
    return {
        "images": {split: len(manifest) for split, manifest in manifests.items()},
        "labels": len(labels),
        "labels_per_image": {"train": round(int(labels["n_train"].sum()) / len(train), 4)},
        "labels_without_train_image": int((labels["n_train"] == 0).sum()),
        "labels_without_validation_image": len(labels),
        "repeated_labels_dropped": repeated,
        "shared": shared_counts(manifests),
    }
