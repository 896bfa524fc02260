"""What a data set says of its rows for their folds: what belongs together, and folds that somebody has dealt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.formats.csv_file import read_csv
from labelstack.formats.problems import FileProblems
from labelstack.params.folds import FoldsSection, is_file
from labelstack.support.errors import InputProblems

_SPLITS = ("train", "validation")


def read_beside(
    root: Path,
    folds: FoldsSection,
    manifests: Mapping[str, pd.DataFrame],
    columns: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """What ``folds.group_by`` and ``folds.column`` name, a file or a column, for every row of train and validation.

    A file has the columns ``id`` and ``group`` (or ``fold``) and, where an id is in both splits, ``split``. Rows that a
    file of groups does not name stand alone; test images that it names are passed over, since no fold has them.

    Parameters
    ----------
    root : ``dataset.root``, which such files lie below
    columns : by split, column → values in the manifest's order, of formats that have further columns

    Returns
    -------
    DataFrame[split, row_id int64, group str (empty: stands alone), fold int64 (−1: none given)]

    Raises
    ------
    InputProblems
        With every problem of both.
    """
    found = pd.concat(
        [
            pd.DataFrame({"split": split, "row_id": manifests[split]["image_id"], "group": "", "fold": -1})
            for split in _SPLITS
            if split in manifests
        ],
        ignore_index=True,
    ).astype({"split": "str", "group": "str", "fold": np.int64})
    problems: list[str] = []
    by = folds.group_by if isinstance(folds.group_by, str) else None
    for key, name, column in (("folds.group_by", by, "group"), ("folds.column", folds.column, "fold")):
        if name is None:
            continue
        if is_file(name):
            _from_file(root / name, key, column, manifests, found, problems)
        else:
            _from_column(key, name, column, manifests, columns or {}, found, problems)
    if problems:
        raise InputProblems(str(root), problems)
    return found


def groups_in(path: Path, names: Sequence[str]) -> list[str]:
    """The groups that a file (id,group) gives images, "" where it names none, before any split is drawn.

    What is wrong with the file is passed over here: ``read_beside`` tells of it.
    """
    rows = read_csv(path, [])
    header = [name.strip().lower() for name in rows[0][1]] if rows else []
    if rows is None or not {"id", "group"} <= set(header):
        return [""] * len(names)
    of = [dict(zip(header, map(str.strip, cells), strict=False)) for _, cells in rows[1:]]
    group = {row.get("id", ""): row.get("group", "") for row in of}
    return [group.get(name, "") for name in names]


def together(groups: Sequence[str]) -> NDArray[np.str_]:
    """What belongs together, str [n]: equal where groups are, and of its own where one is empty."""
    # No cell of a file holds a line end at its start.
    return np.array([group or f"\n{row}" for row, group in enumerate(groups)], dtype=np.str_)


def _from_column(
    key: str,
    name: str,
    column: str,
    manifests: Mapping[str, pd.DataFrame],
    columns: Mapping[str, Mapping[str, Any]],
    found: pd.DataFrame,
    problems: list[str],
) -> None:
    there = sorted({one for of_split in columns.values() for one in of_split})
    if name not in there:
        said = f"its columns are {', '.join(there)}" if there else "this format has no further columns"
        problems.append(f"{key}: {name}: no such column ({said}); or name a CSV file below dataset.root (id,{column})")
        return
    for split, of_split in columns.items():
        if split in _SPLITS and name in of_split:
            told = FileProblems(f"{split}: {name}")
            pairs = zip(_called(manifests[split]), of_split[name], strict=True)
            found.loc[found["split"] == split, column] = [_value(column, cell, image, told) for image, cell in pairs]
            problems += told.sentences()


def _from_file(
    path: Path,
    key: str,
    column: str,
    manifests: Mapping[str, pd.DataFrame],
    found: pd.DataFrame,
    problems: list[str],
) -> None:
    before = len(problems)
    rows = read_csv(path, problems)
    if rows is None:
        if len(problems) == before:
            problems.append(f"{path.name}: not found in {path.parent}, and {key} in params.yaml names it")
        return
    header = [name.strip().lower() for name in rows[0][1]] if rows else []
    if missing := [name for name in ("id", column) if name not in header]:
        problems.append(
            f"{path.name}: expected the columns id and {column}, found {', '.join(header) or 'nothing'}; "
            f"{' and '.join(missing)} lack(s)"
        )
        return
    told = FileProblems(path.name)
    places = _places(manifests)
    test = set(_called(manifests["test"])) if "test" in manifests else set[str]()
    at = {split: found.index[found["split"] == split].to_numpy() for split in manifests if split in _SPLITS}
    values = found[column].tolist()
    seen: set[tuple[str, str]] = set()
    for line, cells in rows[1:]:
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        place, name, split = f"line {line}", row.get("id", ""), row.get("split", "")
        in_splits = [one for one in places if name in places[one] and split in ("", one)]
        if not in_splits and name in test and split in ("", "test"):
            continue
        if not in_splits:
            told.add("", place, "id", "an image of train or validation", repr(name))
        elif len(in_splits) > 1:
            told.add("", place, "id", "an image of one split, or a column split that says which", f"{name!r} in both")
        elif (in_splits[0], name) in seen:
            told.add("", place, "id", "each image once", f"{name!r} again")
        else:
            seen.add((in_splits[0], name))
            value = _value(column, row.get(column, ""), place, told)
            values[at[in_splits[0]][places[in_splits[0]][name]]] = value
    found[column] = values
    problems += told.sentences()


def _places(manifests: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, int]]:
    """By split: what an image is called → its place in the manifest."""
    return {
        split: {name: place for place, name in enumerate(_called(manifest))}
        for split, manifest in manifests.items()
        if split in _SPLITS
    }


def _called(manifest: pd.DataFrame) -> list[str]:
    """What people call the images of a manifest."""
    called: list[str] = (manifest["name"] if "name" in manifest else manifest["image_id"].astype(str)).tolist()
    return called


def _value(column: str, text: Any, place: str, told: FileProblems) -> str | int:
    text = str(text).strip()
    if column == "group":
        return text
    if not text.isdecimal():
        told.add("", place, "fold", "a number from 0", repr(text))
        return -1
    return int(text)
