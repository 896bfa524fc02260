"""Stage `evaluate`: one table of every model, stacker and the blend; scores on test answers go to their runs."""

from __future__ import annotations

from labelstack.params import load_params
from labelstack.predictions import read_predictions
from labelstack.stages import paths
from labelstack.stages.common import done
from labelstack.stages.logged_data import test_data
from labelstack.stages.work.score_all import BLEND, compute, sources
from labelstack.tracking.run_file import read_run_json
from labelstack.tracking.runs import connect

_STAGES = {"base model": "train", "stacker": "stack", BLEND: "blend"}


def run() -> None:
    """Write metrics/evaluation.json and metrics/plots/*.csv, and log test scores to the runs they belong to."""
    params = load_params()
    tracker = connect(params.tracking)
    evaluated = compute(params)
    there = sources(params)
    for name, scores in evaluated.on_test.items():
        trained = read_run_json(there[name].folder / "run.json")
        run_name = "ensemble" if name == BLEND else name
        with tracker.run(_STAGES[there[name].kind], run_name, run_id=trained["run_id"]) as run_:
            seen = test_data(params, read_predictions(there[name].test).image_id)
            run_.log_metrics(scores, model=None if name == BLEND else name, dataset=seen)
    table, primary = evaluated.table, evaluated.primary
    best = max(table, key=lambda name: table[name][primary])
    done("evaluate", f"{len(table)} rows, best {primary}: {best} {table[best][primary]:.4f}", paths.EVALUATION)
