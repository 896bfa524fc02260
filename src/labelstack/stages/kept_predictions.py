"""What the second level takes of its members' files: in memory, or read by blocks where all of it would be too much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelstack.predictions import Predictions, assemble_cube, cube_shape, read_predictions
from labelstack.stacking import fold_predictions
from labelstack.stacking.fold_predictions import FoldPredictions
from labelstack.stages.members import Member


def too_much(numbers: int) -> bool:
    """Whether so many float32 are left in files."""
    return 4 * numbers > fold_predictions.IN_MEMORY


def cube_of(
    parts: Mapping[str, Predictions], row_id: NDArray[np.int64], file: Path, *, unknown: float = np.nan
) -> NDArray[np.float32]:
    """The cube of some rows, mapped from ``file`` where it is too much; ``unknown`` as of ``assemble_cube``."""
    models, labels = cube_shape(parts)
    large = too_much(len(row_id) * models * labels)
    return assemble_cube(parts, row_id, file=file if large else None, unknown=unknown)


def of_folds(member: Member, row_id: NDArray[np.int64], *, nested: bool, large: bool) -> FoldPredictions:
    """What the folds say of a member.

    Parameters
    ----------
    nested : whether ``member.nested`` is taken too
    large : leave probabilities in the files, to be read whenever they are used
    """
    oof = read_predictions(member.oof)
    whole = oof.matrix(oof.places_of(row_id))
    inner = None
    if nested:
        kept = read_predictions(member.nested)
        rows = kept.places_of(row_id)
        inner = kept.folds(rows) if large else np.asarray(kept.matrix(rows)).transpose(1, 0, 2)
    return FoldPredictions(whole if large else np.asarray(whole), inner)


def numbers_of(members: Sequence[Member], rows: int, *, nested: bool) -> int:
    """How many probabilities of so many rows the files of some members hold."""
    labels = read_predictions(members[0].oof).shape[1]
    matrices = sum(
        1 + (read_predictions(one.nested).shape[1] if nested and one.kind == "stacker" else 0) for one in members
    )
    return rows * labels * matrices
