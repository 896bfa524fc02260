"""Stage `blend`: weights and thresholds of the ensemble, chosen on out-of-fold predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstack import storage
from labelstack.params import Params, load_params
from labelstack.pipeline import paths
from labelstack.pipeline.board import threshold_curve
from labelstack.pipeline.common import (
    choices,
    done,
    flat,
    label_table,
    lineage,
    save_decision,
    targets,
    validation_folds,
)
from labelstack.pipeline.datasets import test_data, validation_data
from labelstack.pipeline.scored_sets import BLEND, log_scored
from labelstack.predictions import Predictions, read_predictions, write_predictions
from labelstack.report.figures import blend_weights, figure_png, threshold_curves
from labelstack.stacking.blend import blend
from labelstack.stacking.crossfit import fit_blend, primary_key, scores, strategy_scores
from labelstack.stacking.out_of_fold import FoldPredictions
from labelstack.tracking.run_file import read_run_json, write_run_json
from labelstack.tracking.runs import connect
from labelstack.tracking.views import save_view


def member_predictions(params: Params, part: str) -> dict[str, Predictions]:
    """Predictions of every blend member; ``part`` is ``oof`` (validation rows) or ``test``."""
    split = {"oof": "validation", "test": "test"}[part]
    return {
        name: read_predictions(paths.stacked(name, part) if name in params.stackers else paths.predictions(name, split))
        for name in params.blend_members()
    }


def fold_predictions(params: Params, image_id: NDArray[np.int64]) -> dict[str, FoldPredictions]:
    """What the folds say of every blend member; stackers have nested predictions where ``folds.nested`` made them."""
    members = {}
    for name, prediction in member_predictions(params, "oof").items():
        nested = None
        if name in params.stackers and paths.stacked(name, "nested").exists():
            nested = read_predictions(paths.stacked(name, "nested")).rows_of(image_id).transpose(1, 0, 2)
        members[name] = FoldPredictions(prediction.rows_of(image_id), nested)
    return members


def run() -> None:
    """Write models/ensemble (blend, thresholds), the blended predictions and metrics/{blend,decisions}.json."""
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
    labels = label_table()
    folds = validation_folds(params, rows.Y)
    members = fold_predictions(params, rows.image_id)
    test = member_predictions(params, "test")
    test_id = next(iter(test.values())).image_id
    chosen = choices(params, labels)
    blended = fit_blend(members, rows.Y, folds, blend_params=params.blend, **chosen)
    weights, oof, fitted = blended.weights, blended.probability, blended.cross_fitted
    measured = scores(rows.Y, oof, folds, **chosen, fitted=fitted, decision=blended.decision)
    strategies = strategy_scores(members, fitted, rows.Y, folds, **chosen)

    out = paths.ENSEMBLE
    storage.write_json(out / "blend.json", {"weights": weights})
    save_decision(out / "thresholds.json", labels["label_id"].to_numpy(), blended.decision)
    write_predictions(paths.BLENDED / "oof.npz", rows.image_id, oof)
    write_predictions(paths.BLENDED / "cross_fitted.npz", rows.image_id, fitted.labels.astype(np.float32))
    storage.write_json(
        paths.METRICS / "decisions.json",
        {name: {key: round(value, 6) for key, value in row.items()} for name, row in strategies.items()},
    )
    blended_test = blend({name: p.rows_of(test_id) for name, p in test.items()}, weights)
    write_predictions(paths.BLENDED / "test.npz", test_id, blended_test)
    storage.write_json(paths.METRICS / "blend.json", {k: round(v, 6) for k, v in measured.items()})
    links = {}
    for name in params.blend_members():
        folder = paths.stacker(name) if name in params.stackers else paths.base(name)
        links[f"labelstack.member.{name}"] = read_run_json(folder / "run.json")["run_id"]
    with tracker.run("blend", "ensemble", params=flat(sections), tags=tags | links) as run_:
        run_.log_datasets(validation_data(params, rows), test_data(params, test_id))
        run_.log_metrics(measured | {f"weight.{name}": weight for name, weight in weights.items()})
        primary = f"{params.metric.primary}_f{params.metric.beta:g}"
        run_.log_metrics({f"decision.{name}.{primary}": row[primary] for name, row in strategies.items()})
        run_.set_tags({"labelstack.decision": blended.decision.strategy})
        figure = threshold_curves(threshold_curve(params, rows.Y, oof))
        run_.log_figure(figure_png(figure), "plots/threshold_curve.png")
        run_.log_figure(figure_png(blend_weights(weights)), "plots/blend_weights.png")
        run_.log_artifact(out / "blend.json", "model")
        run_.log_artifact(out / "thresholds.json", "")
        log_scored(run_, BLEND, rows, labels, fitted.labels)
        write_run_json(out / "run.json", run_, measured)
    save_view(tracker, params.metric)
    used = sum(weight > 0 for weight in weights.values())
    primary = primary_key(params.metric)
    kept = f"{used} of {len(weights)} members kept, decision {blended.decision.strategy}"
    done("blend", f"{kept}, {primary} {measured[primary]:.4f}", out)
