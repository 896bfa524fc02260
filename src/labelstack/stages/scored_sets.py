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
from labelstack.stages import paths
from labelstack.stages.rows import Targets, label_table, targets

if TYPE_CHECKING:
    import pandas as pd

    from labelstack.tracking.run import Run

BLEND = "blend"
FOLDER, FILE = "evaluation", "scored.npz"


def label_file(row: str, kind: str) -> Path:
    """Where the cross-fitted label sets of a base model, stacker or the blend lie."""
    return paths.BLENDED / "cross_fitted.npz" if kind == BLEND else paths.cross_fitted(row, stacker=kind == "stacker")


def label_files(params: Params) -> dict[str, Path]:
    """``label_file`` of every base model, stacker and the blend."""
    files = {name: label_file(name, "base model") for name in params.models}
    files |= {name: label_file(name, "stacker") for name in params.stackers}
    return files | {BLEND: label_file(BLEND, BLEND)}


def scored(rows: Targets, labels: pd.DataFrame, chosen: Mapping[str, NDArray[np.bool_]]) -> Scored:
    """Label sets bool [n, n_labels] of some models on the validation rows, with their truth."""
    return Scored(rows.image_id, labels["label_id"].to_numpy(np.int64), rows.Y, dict(chosen))


def workspace_scored(params: Params) -> Scored:
    """Label sets of every base model, stacker and the blend, from the stage outputs here.

    Raises
    ------
    UserError
        When a stage has not run yet; the message names the file that is absent.
    """
    rows = targets("validation")
    sets = {name: read_predictions(file).rows_of(rows.image_id) > 0 for name, file in label_files(params).items()}
    return scored(rows, label_table(), sets)


def log_scored(run: Run, name: str, rows: Targets, labels: pd.DataFrame, chosen: NDArray[np.bool_]) -> None:
    """Store one model's label sets with its run, as ``evaluation/scored.npz``: what runs are compared by."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        write_scored(file, scored(rows, labels, {name: chosen}))
        run.log_artifact(file, FOLDER)
