"""Stage `evaluate`: one table of every model, stacker and the blend; scores on test answers go to their runs."""

from __future__ import annotations

from labelstack.params import load_params
from labelstack.predictions import read_predictions
from labelstack.stages import paths
from labelstack.stages.common import done
from labelstack.stages.logged_data import test_data
from labelstack.stages.members import everyone
from labelstack.stages.work.score_all import compute
from labelstack.tracking.run_file import read_run_json
from labelstack.tracking.runs import connect


def run() -> None:
    """Write metrics/evaluation.json and metrics/plots/*.csv, and log test scores to the runs they belong to."""
    params = load_params()
    tracker = connect(params.tracking)
    evaluated = compute(params)
    for member in everyone(params) if evaluated.on_test else []:
        trained = read_run_json(member.run_file)
        with tracker.run(*member.run_name, run_id=trained["run_id"]) as run_:
            seen = test_data(params, read_predictions(member.test).image_id)
            model = None if member.kind == "blend" else member.name
            run_.log_metrics(evaluated.on_test[member.name], model=model, dataset=seen)
    table, primary = evaluated.table, evaluated.primary
    best = max(table, key=lambda name: table[name][primary])
    done("evaluate", f"{len(table)} rows, best {primary}: {best} {table[best][primary]:.4f}", paths.EVALUATION)
