"""What is cross-fitted, with the truth: of the stage outputs here, and as an artifact of runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.scoring.metric import Metric, metric_of
from labelstack.scoring.scored import Scored, write_scored
from labelstack.stages import paths
from labelstack.stages.cross_fitted import read_cross_fitted
from labelstack.stages.rows import Targets, label_table, targets

if TYPE_CHECKING:
    import pandas as pd

    from labelstack.stacking.crossfit import CrossFitted
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


def scored(
    rows: Targets,
    labels: pd.DataFrame,
    chosen: Mapping[str, NDArray[np.bool_]],
    probability: Mapping[str, NDArray[np.float32]],
) -> Scored:
    """Label sets and probabilities [n, n_labels] of some models on the validation rows, with their truth."""
    return Scored(rows.image_id, labels["label_id"].to_numpy(np.int64), rows.Y, dict(chosen), dict(probability))


def workspace_scored(params: Params) -> Scored:
    """Label sets of every base model, stacker and the blend, and what else the metric wants, from the outputs here.

    Raises
    ------
    UserError
        When a stage has not run yet; the message names the file that is absent.
    """
    rows = targets("validation")
    metric = metric_of(params.metric)
    sets, more = {}, {}
    for name, file in label_files(params).items():
        sets[name] = read_cross_fitted(file, rows.image_id, metric.decides)
        if metric.wants != "label_sets":
            more[name] = read_cross_fitted(file, rows.image_id, metric)
    return scored(rows, label_table(), sets, more)


def log_scored(run: Run, name: str, rows: Targets, labels: pd.DataFrame, fitted: CrossFitted, metric: Metric) -> None:
    """Store what a metric wants of one model with its run, as ``evaluation/scored.npz``: what runs are compared by."""
    more = {} if metric.wants == "label_sets" else {name: fitted.probability}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        write_scored(file, scored(rows, labels, {name: fitted.labels}, more))
        run.log_artifact(file, FOLDER)
