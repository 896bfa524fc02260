"""Stage `stack@{stacker}`: one stacker on the cube of base predictions, one MLflow run."""

from __future__ import annotations

from labelstack.params import load_params
from labelstack.report.figures import figure_png, threshold_curves
from labelstack.scoring.metric import metric_of
from labelstack.stages import paths
from labelstack.stages.code import chosen, kept_code_digest
from labelstack.stages.common import done, flat, keep_run_id, known, lineage, run_id_of, work_folder
from labelstack.stages.logged_data import stacking_data, test_data
from labelstack.stages.members import cube_members, stacker
from labelstack.stages.rows import stacking_split
from labelstack.stages.scored_sets import log_scored
from labelstack.stages.work.fit_stacker import compute
from labelstack.tracking.logged_models import tensor_signature
from labelstack.tracking.run_file import write_run_json
from labelstack.tracking.runs import connect


def run(name: str) -> None:
    """Fit ``stackers.<name>``, write what it gives and log it; a killed attempt is taken up where it stopped."""
    params = load_params()
    section = known(name, params.stackers, "stacker")
    sections = {"stacker": section, "folds": params.folds, "cube": params.cube_columns}
    inputs = [one.predictions for one in cube_members(params)]
    tags = lineage([*inputs, paths.manifest(stacking_split(params)), paths.LABELS, paths.STACKING], sections)
    work = work_folder("stack", name, tags, kept_code_digest("stack", *chosen(params, "stack", name)))
    tracker, own = connect(params.tracking), stacker(name)
    with tracker.run(*own.run_name, params=flat(sections), tags=tags, run_id=run_id_of(work)) as run_:
        keep_run_id(work, run_.run_id)
        stacked = compute(params, name, work)
        validation = stacking_data(params, stacked.rows)
        run_.log_datasets(validation, test_data(params, stacked.test_id))
        n_labels = stacked.rows.Y.shape[1]
        shape = tensor_signature([-1, len(params.cube_columns), n_labels], [-1, n_labels])
        run_.log_model(name, own.learnt, own.kind, flat({"stacker": section}), shape)
        run_.log_metrics(stacked.scores, model=name, dataset=validation)
        run_.log_bytes(figure_png(threshold_curves(stacked.curve)), "plots/threshold_curve.png")
        run_.log_artifact(own.rule, "")
        log_scored(run_, name, stacked.rows, stacked.labels, stacked.fitted, metric_of(params.metric))
        write_run_json(own.run_file, run_, stacked.scores, extra={"digest": stacked.digest})
    primary = metric_of(params.metric).cross_fitted
    images = f"{params.folds.k} folds on {len(stacked.rows)} images"
    done("stack", f"{name}: {images}, {primary} {stacked.scores[primary]:.4f}", own.folder)
