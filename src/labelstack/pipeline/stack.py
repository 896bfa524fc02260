"""Stage `stack@{stacker}`: one stacker, fold by fold, on the cube of base predictions."""

from __future__ import annotations

import numpy as np

from labelstack import storage
from labelstack.engine import Engine
from labelstack.params import load_params
from labelstack.pipeline import paths
from labelstack.pipeline.board import threshold_curve
from labelstack.pipeline.common import (
    choices,
    done,
    flat,
    keep_run_id,
    known,
    label_table,
    lineage,
    run_id_of,
    save_decision,
    targets,
    validation_folds,
    work_folder,
)
from labelstack.pipeline.datasets import test_data, validation_data
from labelstack.pipeline.scored_sets import log_scored
from labelstack.predictions import assemble_cube, read_predictions, write_predictions
from labelstack.report.figures import figure_png, threshold_curves
from labelstack.stacking import make_stacker, out_of_fold
from labelstack.stacking.crossfit import cross_fit, primary_key, scores
from labelstack.stacking.decisions import fit_decision
from labelstack.tracking.logged_models import tensor_signature
from labelstack.tracking.run_file import write_run_json
from labelstack.tracking.runs import connect


def run(name: str) -> None:
    """Fit ``stackers.<name>``; write its fold models, out-of-fold and test predictions, thresholds and scores."""
    params = load_params()
    section = known(name, params.stackers, "stacker")
    sections = {"stacker": section, "folds": params.folds, "base_models": list(params.models)}
    inputs = [paths.predictions(model, "validation").parent for model in params.models]
    tags = lineage([*inputs, paths.manifest("validation"), paths.LABELS], sections)
    work = work_folder("stack", name, tags, "stacking")
    tracker = connect(params.tracking)
    rows = targets("validation")
    labels = label_table()
    parts = {model: read_predictions(paths.predictions(model, "validation")) for model in params.models}
    cube = assemble_cube(parts, rows.image_id)
    test_parts = {model: read_predictions(paths.predictions(model, "test")) for model in params.models}
    test_id = next(iter(test_parts.values())).image_id
    test_cube = assemble_cube(test_parts, test_id)
    folds = validation_folds(params, rows.Y)
    with tracker.run("stack", name, params=flat(sections), tags=tags, run_id=run_id_of(work)) as run_:
        keep_run_id(work, run_.run_id)
        validation = validation_data(params, rows)
        run_.log_datasets(validation, test_data(params, test_id))
        with Engine(params.engine) as engine:
            result = out_of_fold(
                lambda: make_stacker(section),
                cube,
                rows.Y,
                folds,
                test_cube=test_cube,
                nested=params.folds.nested,
                work=work,
                map_=None if engine.local else engine.map,
            )
        assert result.test is not None  # there is a test cube
        out = paths.stacker(name)
        result.ensemble.save(out / "folds")
        write_predictions(paths.stacked(name, "oof"), rows.image_id, result.oof)
        write_predictions(paths.stacked(name, "test"), test_id, result.test)
        if result.nested is not None:
            write_predictions(paths.stacked(name, "nested"), rows.image_id, result.nested.transpose(1, 0, 2))
        chosen = choices(params, labels)
        fitted = cross_fit(result.predictions, rows.Y, folds, **chosen)
        write_predictions(paths.cross_fitted(name, stacker=True), rows.image_id, fitted.labels.astype(np.float32))
        probability = result.predictions.like_new(folds)
        decision = fit_decision(
            rows.Y, probability, params.thresholds, params.metric, groups=chosen["groups"], folds=folds
        )
        save_decision(out / "thresholds.json", labels["label_id"].to_numpy(), decision)
        measured = scores(rows.Y, result.predictions, folds, **chosen, fitted=fitted, decision=decision)
        storage.write_json(paths.METRICS / "stack" / f"{name}.json", {k: round(v, 6) for k, v in measured.items()})
        shape = tensor_signature([-1, *cube.shape[1:]], [-1, rows.Y.shape[1]])
        run_.log_model(name, out / "folds", "stacker", flat({"stacker": section}), shape)
        run_.log_metrics(measured, model=name, dataset=validation)
        figure = threshold_curves(threshold_curve(params, rows.Y, probability))
        run_.log_figure(figure_png(figure), "plots/threshold_curve.png")
        run_.log_artifact(out / "thresholds.json", "")
        log_scored(run_, name, rows, labels, fitted.labels)
        write_run_json(out / "run.json", run_, measured, extra={"digest": result.ensemble.digest()})
    primary = primary_key(params.metric)
    done("stack", f"{name}: {params.folds.k} folds on {len(rows.Y)} images, {primary} {measured[primary]:.4f}", out)
