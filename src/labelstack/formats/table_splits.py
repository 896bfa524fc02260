"""Which row of a table is in which split: as a column says, or drawn where there is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstack.formats.format import Draw
from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems
from labelstack.formats.table_file import Columns

SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
TRAIN, VALIDATION, TEST = range(3)


def split_numbers(columns: Columns, column: str, given: str, problems: FileProblems) -> NDArray[np.int8]:
    """The split of each row, int8 [n], a place in ``SPLITS``; as the column says, else the ``given`` one for all.

    Parameters
    ----------
    column : name of the column, for messages
    """
    if "split" not in columns.cells:
        return np.full(len(columns.place), SPLITS.index(given), np.int8)
    numbers, known = [], {word: SPLITS.index(split) for word, split in SPLIT_WORDS.items()}
    for row, cell in enumerate(columns.cells["split"]):
        number = known.get(cell)
        if number is None:
            number = known.get(cell.strip().lower(), -1)
            if number < 0:
                what = found(cell) if cell.strip() else "an empty cell"
                problems.add("", columns.told(row), column, "train, validation (or val) or test", what)
                number = TRAIN
        numbers.append(number)
    return np.array(numbers, np.int8)


def drawn(
    split: NDArray[np.int8],
    Y: NDArray[np.bool_],
    shares: dict[int, float],
    source: NDArray[np.str_] | None,
    draw: Draw,
) -> NDArray[np.int8]:
    """The splits with those that have no row drawn out of the train rows: test first, then validation of what is left.

    Parameters
    ----------
    split : int8 [n], places in ``SPLITS``
    Y : bool [n, n_labels]
    shares : place in ``SPLITS`` -> share of the rows it is drawn from
    source : str [n], what belongs together and stays so; None: every row stands alone
    """
    split = split.copy()
    for number, wanted in enumerate((TEST, VALIDATION)):
        if not (split == wanted).any():
            rows = np.flatnonzero(split == TRAIN)
            chosen = draw(Y[rows], shares[wanted], number, None if source is None else source[rows])
            split[rows[chosen]] = wanted
    return split
