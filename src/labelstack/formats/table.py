"""A table of images and labels, as people have it: a CSV or parquet file, or a folder for each class.

The table (``dataset.table`` in params.yaml says how it looks) has a column of images, paths below ``dataset.root`` or
URLs, and a column of labels, names with a separator between them or lists. Every cell is a text: ``007``, ``1e5`` and
``NaN`` are names like others. Images are called by what stands in the table wherever they are shown; inside, an id is a
digest of that text.

Test rows may have labels, the answers that `evaluate` alone reads, or none. A split that neither a column nor a file
names is drawn from the train rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.formats.beside import groups_in, together
from labelstack.formats.class_folders import read_folders
from labelstack.formats.collector import collector_paused
from labelstack.formats.format import CompetitionData, Draw
from labelstack.formats.json_file import found
from labelstack.formats.manifest import label_matrix
from labelstack.formats.problems import FileProblems
from labelstack.formats.submission import Form
from labelstack.formats.table_file import Columns, read_columns
from labelstack.formats.table_images import TableImages
from labelstack.formats.table_labels import TableLabels
from labelstack.formats.table_result import TableRows, competition_data, too_few
from labelstack.formats.table_splits import TEST, VALIDATION, drawn, split_numbers
from labelstack.formats.text_id import text_ids
from labelstack.formats.text_submission import write_texts
from labelstack.params.dataset import TABLE, DatasetSection
from labelstack.params.folds import FoldsSection, is_file
from labelstack.support.errors import InputProblems, UserError


class TableFormat:
    """The format `table`, with the params of one data set.

    Parameters
    ----------
    dataset : the section ``dataset``
    draw : how rows are chosen for splits that the table does not name; needed for reading
    folds : the section ``folds``: columns that it names are read too, and rows of one group are drawn together
    """

    def __init__(self, dataset: DatasetSection, draw: Draw | None = None, folds: FoldsSection | None = None) -> None:
        self._dataset, self._table, self._draw = dataset, dataset.table, draw
        self._folds = folds or FoldsSection()

    def configured(
        self, dataset: DatasetSection, draw: Draw | None = None, folds: FoldsSection | None = None
    ) -> TableFormat:
        """The format for other sections."""
        return TableFormat(dataset, draw, folds)

    @property
    def files(self) -> dict[str, str]:
        """The split that a file's rows are in unless a column says otherwise -> its name below the root."""
        named = {"train": self._table.file, "validation": self._table.validation_file, "test": self._table.test_file}
        return {split: name for split, name in named.items() if name is not None}

    @property
    def REQUIRED(self) -> Sequence[str]:  # noqa: N802
        """Names of the files and folders that the data set must have."""
        return list(self.files.values()) or [f"{self._table.images or '.'}/<class>/<image>"]

    OPTIONAL: Mapping[str, str] = {}

    def missing_files(self, root: str | Path) -> list[str]:
        """A sentence for each file and folder that is not there; nothing is read."""
        root = Path(root)
        if not root.is_dir():
            what = "is a file" if root.exists() else "there is no such folder yet"
            return [f"{root}: {what}; it is to hold {', '.join(self.REQUIRED)}"]
        missing = [f"{root / name}: missing" for name in self.files.values() if not (root / name).is_file()]
        if self._table.images and not (root / self._table.images).is_dir():
            missing.append(f"{root / self._table.images}: missing, the folder of the images (dataset.table.images)")
        return missing

    @collector_paused()
    def read(self, root: str | Path, label_ids: tuple[int, int] | None = None, folds: int = 0) -> CompetitionData:
        """Read and check all files, and draw the splits that they do not name.

        Parameters
        ----------
        root : ``dataset.root``
        label_ids : None: labels are names
        folds : so many folds the validation images will be dealt to, at least one to each

        Raises
        ------
        InputProblems
            With every problem of every file: file, line, column, what was expected, what was found.
        """
        root, problems = Path(root), list[str]()
        rows = TableRows(TableImages(root, self._table), TableLabels(self._dataset))
        for split, columns in self._parts(root, rows.images, problems):
            self._take(columns, split, rows, problems)
        further = {key: name for key, name in self._folds.columns.items() if key in rows.further}
        problems += self._absent(further, problems)
        if folder := rows.images.folder_problem():
            problems.insert(0, folder)
        problems += rows.labels.problems()
        image_id = text_ids(rows.images.names, problems) if not problems else np.zeros(0, np.int64)
        if problems:
            raise InputProblems(str(root), problems)
        order = sorted(range(len(rows.labels.names)), key=rows.labels.names.__getitem__)
        names = [rows.labels.names[i] for i in order]
        place = np.argsort(order).tolist()
        known = {labels: sorted([place[number] for number in labels]) for labels in set(rows.labels.sets)}
        sets = [known[labels] for labels in rows.labels.sets]
        splits = self._drawn(root, rows, sets, len(names))
        if told := too_few(rows, splits, sets, folds):
            raise InputProblems(str(root), told)
        header = (self._table.image, self._table.labels)
        return competition_data(rows, image_id, splits, sets, names, header, rows.labels.joined, further)

    def answers(self, path: str | Path, labels: pd.DataFrame) -> pd.DataFrame:
        """None but those in the table: params.yaml refuses ``dataset.answers``."""
        raise UserError("dataset.answers: must be null: labels of test images are in their rows of the table")

    def write_submission(self, path: str | Path, form: Form, labels: Sequence[Iterable[int]]) -> None:
        """Write a CSV file with the names of images and labels; see ``write_texts``."""
        write_texts(path, form, labels)

    def _parts(self, root: Path, images: TableImages, problems: list[str]) -> Iterable[tuple[str, Columns]]:
        """Split, unless a column says otherwise, and columns of each file that can be read."""
        table = self._table
        if table.file is None:
            if images.files.exists and not images.files.leaves:
                yield "train", read_folders(images.files, problems)
            return
        for split, name in self.files.items():
            wanted = {"image": table.image}
            wanted |= {"split": table.split} if table.split and split == "train" else {}
            of_labels = {"labels": table.labels}
            must, may = (wanted, of_labels) if split == "test" else (wanted | of_labels, {})
            if split != "test" and table.validation_file is None:
                must |= self._folds.columns
            elif split != "test":  # folds may be of one of the two
                may = may | self._folds.columns
            columns = read_columns(root / name, name, must, may, problems)
            if columns is not None:
                yield split, columns

    def _absent(self, further: Mapping[str, str], problems: list[str]) -> list[str]:
        """A sentence for each column of ``folds`` that is in neither of two files; of one file reading tells."""
        if problems or self._table.validation_file is None:
            return []
        files = f"{self._table.file} or {self._table.validation_file}"
        lacking = {key: name for key, name in self._folds.columns.items() if key not in further}
        return [f"{key}: expected a column {found(name)} in {files}, found none" for key, name in lacking.items()]

    def _take(self, columns: Columns, given: str, rows: TableRows, problems: list[str]) -> None:
        told = FileProblems(columns.file)
        if not columns.place:
            problems.append(f"{columns.file}: expected at least one row, found none")
        split = split_numbers(columns, self._table.split or "", given, told)
        rows.splits.append(split)
        rows.images.take(columns, self._table.image, told)
        rows.labels.take(columns, (split != TEST).tolist(), told)
        for key in self._folds.columns:
            if key in columns.cells or key in rows.further:
                before = rows.further.setdefault(key, [""] * (len(rows.images.names) - len(split)))
                before += map(str.strip, columns.cells.get(key, [""] * len(split)))
        problems += told.sentences()

    def _drawn(self, root: Path, rows: TableRows, sets: list[list[int]], n_labels: int) -> NDArray[np.int8]:
        split = rows.split
        if (split == VALIDATION).any() and (split == TEST).any():
            return split
        if self._draw is None:
            raise ValueError("a format that is to read must be told how rows are drawn")
        Y = label_matrix(sets, np.arange(n_labels)).view(np.bool_)
        shares = {TEST: self._table.test, VALIDATION: self._table.validation}
        by, groups = self._folds.group_by, rows.further.get("folds.group_by")
        if isinstance(by, str) and is_file(by):
            groups = groups_in(root / by, rows.images.names)
        return drawn(split, Y, shares, None if groups is None else together(groups), self._draw)


FORMAT = TableFormat(DatasetSection(format=TABLE))
