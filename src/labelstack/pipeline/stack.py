"""Stage `stack@{stacker}`: one stacker on the cube of base predictions, one MLflow run."""

from __future__ import annotations

from labelstack.params import load_params
from labelstack.pipeline import paths
from labelstack.pipeline.code import code_digest
from labelstack.pipeline.common import done, flat, keep_run_id, known, lineage, run_id_of, work_folder
from labelstack.pipeline.computing.stack import compute
from labelstack.pipeline.scored_sets import log_scored
from labelstack.report.figures import figure_png, threshold_curves
from labelstack.stacking.crossfit import primary_key
from labelstack.tracking.run_file import write_run_json
from labelstack.tracking.runs import connect


def run(name: str) -> None:
    """Fit ``stackers.<name>``, write what it gives and log it; a killed attempt is taken up where it stopped."""
    params = load_params()
    section = known(name, params.stackers, "stacker")
    sections = {"stacker": section, "folds": params.folds, "base_models": list(params.models)}
    inputs = [paths.predictions(model, "validation").parent for model in params.models]
    tags = lineage([*inputs, paths.manifest("validation"), paths.LABELS], sections)
    work = work_folder("stack", name, tags, code_digest("stack", section.kind))
    tracker = connect(params.tracking)
    with tracker.run("stack", name, params=flat(sections), tags=tags, run_id=run_id_of(work)) as run_:
        keep_run_id(work, run_.run_id)
        stacked, out = compute(params, name, work), paths.stacker(name)
        run_.log_metrics(stacked.scores)
        run_.log_figure(figure_png(threshold_curves(stacked.curve)), "plots/threshold_curve.png")
        run_.log_artifact(out / "thresholds.json", "")
        log_scored(run_, name, stacked.rows, stacked.labels, stacked.chosen)
        run_.log_artifacts(out / "folds", "model")
        write_run_json(out / "run.json", run_, stacked.scores, extra={"digest": stacked.digest})
    primary = primary_key(params.metric)
    images = f"{params.folds.k} folds on {len(stacked.rows.Y)} images"
    done("stack", f"{name}: {images}, {primary} {stacked.scores[primary]:.4f}", out)
