"""Stage `blend`: weights and thresholds of the ensemble, chosen on out-of-fold predictions."""

from __future__ import annotations

import numpy as np

from labelstack import metrics, storage
from labelstack.params import Params, load_params
from labelstack.pipeline import paths
from labelstack.pipeline.board import threshold_curve
from labelstack.pipeline.common import (
    done,
    flat,
    label_table,
    lineage,
    save_thresholds,
    targets,
    validation_folds,
)
from labelstack.predictions import Predictions, read_predictions, write_predictions
from labelstack.report.figures import blend_weights, figure_png, threshold_curves
from labelstack.stacking.blend import blend, search_weights
from labelstack.stacking.crossfit import chooser, cross_fitted_blend, scores
from labelstack.tracking.run_file import read_run_json, write_run_json
from labelstack.tracking.runs import connect


def member_predictions(params: Params, part: str) -> dict[str, Predictions]:
    """Predictions of every blend member; ``part`` is ``oof`` (validation rows) or ``test``."""
    split = {"oof": "validation", "test": "test"}[part]
    return {
        name: read_predictions(paths.stacked(name, part) if name in params.stackers else paths.predictions(name, split))
        for name in params.blend_members()
    }


def run() -> None:
    """Write models/ensemble (blend, thresholds), the blended predictions and metrics/blend.json."""
    params = load_params()
    sections = {
        "blend": params.blend,
        "members": params.blend_members(),
        "folds": params.folds,
        "metric": params.metric,
        "thresholds": params.thresholds,
    }
    inputs = [
        paths.stacked(name, "oof").parent if name in params.stackers else paths.predictions(name, "test").parent
        for name in params.blend_members()
    ]
    tags = lineage([*inputs, paths.manifest("validation"), paths.LABELS], sections)
    tracker = connect(params.tracking)
    rows = targets("validation")
    folds = validation_folds(params, rows.Y)
    members = {name: p.rows_of(rows.image_id) for name, p in member_predictions(params, "oof").items()}
    test = member_predictions(params, "test")
    test_id = next(iter(test.values())).image_id
    weights = search_weights(
        members, rows.Y, step=params.blend.step, metric=params.metric.primary, beta=params.metric.beta, progress="blend"
    )
    oof = blend(members, weights)
    _, fitted_labels = cross_fitted_blend(
        members, rows.Y, folds, step=params.blend.step, metric=params.metric, thresholds=params.thresholds
    )
    measured = scores(rows.Y, oof, folds, params.metric, params.thresholds)
    for average in metrics.AVERAGES:
        score = metrics.f_beta(rows.Y, fitted_labels, average=average, beta=params.metric.beta)
        measured[f"{average}_f{params.metric.beta:g}_cross_fitted"] = score
    thresholds = chooser(params.metric, params.thresholds)(rows.Y, oof)

    out = paths.ENSEMBLE
    storage.write_json(out / "blend.json", {"weights": weights})
    label_id = label_table()["label_id"].to_numpy()
    save_thresholds(out / "thresholds.json", params.thresholds.strategy, label_id, thresholds)
    write_predictions(paths.BLENDED / "oof.npz", rows.image_id, oof)
    write_predictions(paths.BLENDED / "cross_fitted.npz", rows.image_id, fitted_labels.astype(np.float32))
    blended_test = blend({name: p.rows_of(test_id) for name, p in test.items()}, weights)
    write_predictions(paths.BLENDED / "test.npz", test_id, blended_test)
    storage.write_json(paths.METRICS / "blend.json", {k: round(v, 6) for k, v in measured.items()})
    links = {}
    for name in params.blend_members():
        folder = paths.stacker(name) if name in params.stackers else paths.base(name)
        links[f"labelstack.member.{name}"] = read_run_json(folder / "run.json")["run_id"]
    with tracker.run("blend", "ensemble", params=flat(sections), tags=tags | links) as run_:
        run_.log_metrics(measured | {f"weight.{name}": weight for name, weight in weights.items()})
        figure = threshold_curves(threshold_curve(params, rows.Y, oof))
        run_.log_figure(figure_png(figure), "plots/threshold_curve.png")
        run_.log_figure(figure_png(blend_weights(weights)), "plots/blend_weights.png")
        run_.log_artifact(out / "blend.json", "model")
        run_.log_artifact(out / "thresholds.json", "")
        write_run_json(out / "run.json", run_, measured)
    used = sum(weight > 0 for weight in weights.values())
    primary = f"{params.metric.primary}_f{params.metric.beta:g}_cross_fitted"
    done("blend", f"{used} of {len(weights)} members kept, {primary} {measured[primary]:.4f}", out)
