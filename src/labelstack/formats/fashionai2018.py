"""Files of FashionAI 2018, attributes of women's clothing, as Alibaba's TianChi handed them out.

``label.csv``, one or several, without a header: ``path,key,letters``, a letter for each value of the attribute: ``y``
for the one that is true, ``m`` for any that may be, ``n`` for the others; answers that were published later end in a
field that is always 0. ``question.csv``: ``path,key`` and a field that nobody reads. Of several files the first line of
a path counts (`prepare_data.py` in https://github.com/gd2016229035/FashionAI2018-TianChi).

An image is a row that knows one label group: its attribute. The labels are all 54 values, whatever occurs. An image's
id is a digest of its path, as in the format `table`; nothing hangs on the order of lines but that of the submission,
which is question.csv's. There are no validation images: as in `imet2019`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from labelstack.formats.collector import collector_paused
from labelstack.formats.fashionai_rows import Line, images_of, question_lines, values_lines
from labelstack.formats.format import CompetitionData, Draw
from labelstack.formats.shared import shared_counts
from labelstack.formats.submission import Form, Texts
from labelstack.formats.table_images import file_url
from labelstack.formats.text_id import text_ids
from labelstack.params.dataset import DatasetSection, FashionaiSection
from labelstack.params.folds import FoldsSection
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.fashionai_values import FIRST, NAMES, VALUES
from labelstack.support.storage import replacing

HEADER = ("path", "attribute_key")  # in the form; the file has none
SEPARATOR = ";"


class Fashionai2018Format:
    """The format `fashionai2018`.

    Parameters
    ----------
    section : ``dataset.fashionai``
    drawn : a share of train is drawn as validation afterwards, so that no empty split stands in for it
    """

    REQUIRED: Sequence[str] = ("train/Annotations/label.csv", "test/Tests/question.csv", "the images that they name")
    OPTIONAL: Mapping[str, str] = {}

    def __init__(self, section: FashionaiSection | None = None, drawn: bool = False) -> None:
        self._section, self._drawn = section or FashionaiSection(), drawn

    def configured(
        self, dataset: DatasetSection, draw: Draw | None = None, folds: FoldsSection | None = None
    ) -> Fashionai2018Format:
        """The format for other sections: names of the files, and whether validation images are drawn."""
        return Fashionai2018Format(dataset.fashionai, dataset.validation > 0)

    def missing_files(self, root: str | Path) -> list[str]:
        """A sentence for each file that is not there; nothing is read."""
        root, section = Path(root), self._section
        files = [*section.labels, section.question]
        if not root.is_dir():
            what = "is a file" if root.exists() else "there is no such folder yet"
            return [f"{root}: {what}; it is to hold {', '.join(files)} and the images that they name"]
        keys = {section.question: "question"}
        return [
            f"{root / file}: missing (dataset.fashionai.{keys.get(file, 'labels')} names it)"
            for file in files
            if not (root / file).is_file()
        ]

    @collector_paused()
    def read(self, root: str | Path, label_ids: tuple[int, int] | None = None, folds: int = 0) -> CompetitionData:
        """Read and check all files, and that each image that counts has a file.

        Parameters
        ----------
        root : ``dataset.root``
        label_ids : None: the 54 values are given
        folds : 0: base models have folds of train, and the validation split is empty

        Raises
        ------
        InputProblems
            With every problem of every file: file, line, field, what was expected, what was found.
        """
        if label_ids is not None:
            raise UserError("dataset.label_ids: must be null for fashionai2018, whose labels are its 54 values")
        root, problems = Path(root), list[str]()
        train, repeated = values_lines(root, self._section.labels, problems)
        learnt = set() if problems else {line.key for line in train}
        test = question_lines(root, self._section.question, learnt, problems)
        if not problems:
            ids = {"train": _ids(train, problems), "test": _ids(test, problems)}
        if problems:
            raise InputProblems(str(root), problems)
        manifests = {split: _manifest(ids[split], lines) for split, lines in (("train", train), ("test", test))}
        if not self._drawn and not folds:
            manifests["validation"] = manifests["train"].iloc[:0].reset_index(drop=True)
        labels = _label_table(train)
        asked = [f"{line.path},{line.key}" for line in test]
        form = Form(ids["test"], HEADER, Texts(asked, dict(enumerate(NAMES)), SEPARATOR))
        return CompetitionData(manifests, labels, form, _counts(manifests, labels, repeated))

    def answers(self, path: str | Path, labels: pd.DataFrame) -> pd.DataFrame:
        """True values of test images, a file like label.csv, with known and maybe as in manifests.

        Raises
        ------
        InputProblems
        """
        path, problems = Path(path), list[str]()
        lines, _ = values_lines(path.parent, [path.name], problems, images=False)
        ids = _ids(lines, problems)
        if problems:
            raise InputProblems(str(path), problems)
        return _manifest(ids, lines).drop(columns=["url", "name"])

    def write_submission(self, path: str | Path, form: Form, labels: Sequence[Iterable[int]]) -> None:
        """Write label sets as certainties: ``write_probabilities`` of 1 for what is given, 0 for what is not."""
        P = np.zeros((len(labels), len(NAMES)))
        for row, given in enumerate(labels):
            P[row, list(given)] = 1
        self.write_probabilities(path, form, np.arange(len(NAMES)), P)

    def write_probabilities(
        self, path: str | Path, form: Form, label_id: ArrayLike, P: NDArray[np.floating[Any]]
    ) -> None:
        """Write ``path,key,p1;p2;…`` with eight decimals and no header, a line for each image in the form's order.

        An image's probabilities are those of its attribute's values, divided by their sum; all alike where that is 0.

        Parameters
        ----------
        label_id : int [n_labels], ids of the columns
        P : float [n, n_labels]

        Raises
        ------
        ValueError
            When the number of rows is not that of the form, or a probability is no number ≥ 0. Nothing is written then.
        UserError
            When the form is of another format.
        """
        if form.texts is None or form.header != HEADER:
            raise UserError(
                "submission: its form is of another format: run `labelstack stage ingest` for this data set"
            )
        columns, asked = np.asarray(label_id), form.texts.image
        P = np.asarray(P, np.float64)
        if P.shape != (len(asked), len(columns)) or not (P >= 0).all() or not np.isfinite(P).all():
            raise ValueError(f"expected numbers ≥ 0, {len(asked)} rows of {len(columns)}, found {P.shape}")
        key = np.array([text.rpartition(",")[2] for text in asked], dtype=object)
        lines = np.empty(len(asked), dtype=object)
        for name, values in VALUES.items():
            rows = np.flatnonzero(key == name)
            wanted = FIRST[name] + np.arange(len(values))
            told = SEPARATOR.join(["%.8f"] * len(values))
            some = P[np.ix_(rows, np.searchsorted(columns, wanted))]
            total = some.sum(axis=1, keepdims=True)
            shares = np.divide(some, total, out=np.full_like(some, 1 / len(values)), where=total > 0)
            lines[rows] = [told % tuple(row) for row in shares.tolist()]
        text = "".join(f"{image},{line}\n" for image, line in zip(asked, lines.tolist(), strict=True))
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


FORMAT = Fashionai2018Format()


def _ids(lines: Sequence[Line], problems: list[str]) -> NDArray[np.int64]:
    return text_ids([line.path for line in lines], problems)


def _manifest(image_id: NDArray[np.int64], lines: Sequence[Line]) -> pd.DataFrame:
    asked = [line.true is None for line in lines]
    return pd.DataFrame(
        {
            "image_id": image_id,
            "url": pd.Series([[file_url(f"{images_of(line.file)}{line.path}")] for line in lines], dtype=object),
            "label_id": pd.Series(
                [None if no else [line.true] for no, line in zip(asked, lines, strict=True)], dtype=object
            ),
            "name": pd.Series([line.path for line in lines], dtype="str"),
            "known": pd.Series([line.key for line in lines], dtype="str"),
            "maybe": pd.Series(
                [None if no else list(line.maybe) for no, line in zip(asked, lines, strict=True)], dtype=object
            ),
        }
    )


def _label_table(lines: Sequence[Line]) -> pd.DataFrame:
    n_train = np.bincount([line.true for line in lines if line.true is not None], minlength=len(NAMES))
    return pd.DataFrame(
        {
            "label_id": np.arange(len(NAMES), dtype=np.int32),
            "name": pd.Series(NAMES, dtype="str"),
            "group": pd.Series([name.partition("::")[0] for name in NAMES], dtype="str"),
            "n_train": n_train.astype(np.int64),
            "n_validation": np.zeros(len(NAMES), np.int64),
        }
    )


def _counts(manifests: dict[str, pd.DataFrame], labels: pd.DataFrame, repeated: int) -> dict[str, Any]:
    given = {split: manifests[split]["known"].value_counts() for split in ("train", "test")}
    maybe = manifests["train"]["maybe"].map(len).to_numpy()
    return {
        "images": {split: len(manifest) for split, manifest in manifests.items()},
        "labels": len(labels),
        "labels_per_image": {"train": 1.0},
        "labels_without_train_image": int((labels["n_train"] == 0).sum()),
        "labels_without_validation_image": len(labels),
        "images_of_attribute": {
            key: {split: int(found.get(key, 0)) for split, found in given.items()} for key in VALUES
        },
        "images_with_maybe": {"train": int((maybe > 0).sum())},
        "repeated_paths_dropped": repeated,
        "shared": shared_counts(manifests),
    }
