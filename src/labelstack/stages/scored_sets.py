"""What is cross-fitted, with the truth: of the stage outputs here, and as an artifact of runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.scoring.metric import Metric, metric_of
from labelstack.scoring.scored import Scored, write_scored
from labelstack.stages.cross_fitted import read_cross_fitted
from labelstack.stages.fold_files import stacking_rows
from labelstack.stages.members import everyone
from labelstack.stages.rows import Rows, label_table

if TYPE_CHECKING:
    import pandas as pd

    from labelstack.stacking.crossfit import CrossFitted
    from labelstack.tracking.run import Run

FOLDER, FILE = "evaluation", "scored.npz"


def scored(
    rows: Rows,
    labels: pd.DataFrame,
    chosen: Mapping[str, NDArray[np.bool_]],
    more: Mapping[str, NDArray[Any]],
    metric: Metric,
) -> Scored:
    """Label sets of some models on the stacking rows, what else the metric wants, and the truth."""
    kind = "counts" if metric.wants == "counts" else "probability"
    label_id = labels["label_id"].to_numpy(np.int64)
    return Scored(rows.row_id, label_id, rows.Y, dict(chosen), **{kind: dict(more)})


def workspace_scored(params: Params) -> Scored:
    """Label sets of every base model, stacker and the blend, and what else the metric wants, from the outputs here.

    Raises
    ------
    UserError
        When a stage has not run yet; the message names the file that is absent.
    """
    rows = stacking_rows(params)
    metric = metric_of(params.metric)
    sets, more = {}, {}
    for member in everyone(params):
        sets[member.name] = read_cross_fitted(member.cross_fitted, rows.row_id, metric.decides)
        if metric.wants != "label_sets":
            more[member.name] = read_cross_fitted(member.cross_fitted, rows.row_id, metric)
    return scored(rows, label_table(), sets, more, metric)


def log_scored(run: Run, name: str, rows: Rows, labels: pd.DataFrame, fitted: CrossFitted, metric: Metric) -> None:
    """Store what a metric wants of one model with its run, as ``evaluation/scored.npz``: what runs are compared by."""
    more = {} if metric.wants == "label_sets" else {name: fitted.given(metric)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        write_scored(file, scored(rows, labels, {name: fitted.labels}, more, metric))
        run.log_artifact(file, FOLDER)
