"""Cross-fitted label sets with the truth: of the stage outputs here, and as an artifact of runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.predictions import read_predictions
from labelstack.scoring.scored import Scored, write_scored
from labelstack.stages.members import everyone
from labelstack.stages.rows import Rows, label_table, stacking_rows

if TYPE_CHECKING:
    import pandas as pd

    from labelstack.tracking.run import Run

FOLDER, FILE = "evaluation", "scored.npz"


def scored(rows: Rows, labels: pd.DataFrame, chosen: Mapping[str, NDArray[np.bool_]]) -> Scored:
    """Label sets bool [n, n_labels] of some models on the validation rows, with their truth."""
    return Scored(rows.row_id, labels["label_id"].to_numpy(np.int64), rows.Y, dict(chosen))


def workspace_scored(params: Params) -> Scored:
    """Label sets of every base model, stacker and the blend, from the stage outputs here.

    Raises
    ------
    UserError
        When a stage has not run yet; the message names the file that is absent.
    """
    rows = stacking_rows()
    sets = {one.name: read_predictions(one.cross_fitted).rows_of(rows.row_id) > 0 for one in everyone(params)}
    return scored(rows, label_table(), sets)


def log_scored(run: Run, name: str, rows: Rows, labels: pd.DataFrame, chosen: NDArray[np.bool_]) -> None:
    """Store one model's label sets with its run, as ``evaluation/scored.npz``: what runs are compared by."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        write_scored(file, scored(rows, labels, {name: chosen}))
        run.log_artifact(file, FOLDER)
