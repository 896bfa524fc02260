"""Stage `predict@{model}`: validation and test predictions of one base model, its thresholds and scores."""

from __future__ import annotations

from labelstack import storage
from labelstack.images.loader import evaluation_batches
from labelstack.images.tta import TRANSFORMS
from labelstack.params import load_params
from labelstack.pipeline import paths
from labelstack.pipeline.common import done, known, label_table, save_thresholds, targets, validation_folds
from labelstack.predictions import read_predictions, write_predictions
from labelstack.stacking.crossfit import chooser, scores
from labelstack.tracking.run_file import read_run_json
from labelstack.tracking.runs import connect


def run(name: str) -> None:
    """Write data/predictions/<name>, models/base/<name>/thresholds.json and metrics/predict/<name>.json."""
    params = load_params()
    model = known(name, params.models, "base model")
    tracker = connect(params.tracking)
    from labelstack.networks.inference import load_model, predict

    network = load_model(paths.base(name) / "model.keras")
    transforms = [TRANSFORMS[transform] for transform in params.prediction.tta]
    for split in ("validation", "test"):
        size, batch_size = model.image_size, params.prediction.batch_size
        batches = evaluation_batches(paths.shards(split), None, size, batch_size, model.resize)
        write_predictions(paths.predictions(name, split), *predict(network, batches, transforms))
    rows = targets("validation")
    P = read_predictions(paths.predictions(name, "validation")).rows_of(rows.image_id)
    folds = validation_folds(params, rows.Y)
    thresholds = chooser(params.metric, params.thresholds)(rows.Y, P)
    result = scores(rows.Y, P, folds, params.metric, params.thresholds)
    file = paths.base(name) / "thresholds.json"
    save_thresholds(file, params.thresholds.strategy, label_table()["label_id"].to_numpy(), thresholds)
    storage.write_json(paths.METRICS / "predict" / f"{name}.json", {k: round(v, 6) for k, v in result.items()})
    trained = read_run_json(paths.base(name) / "run.json")
    with tracker.run("train", name, run_id=trained["run_id"]) as run_:
        run_.log_metrics(result)
        run_.log_artifact(file, "")
    primary = f"{params.metric.primary}_f{params.metric.beta:g}_cross_fitted"
    done("predict", f"{name}: {len(P)} validation images, {primary} {result[primary]:.4f}", paths.base(name))
