"""Stage `predict@{model}`: validation and test predictions of one base model, its thresholds and scores."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from labelstack import storage
from labelstack.engine import Engine, Job
from labelstack.engine_worker import versions
from labelstack.images.loader import evaluation_batches
from labelstack.images.shards import shard_paths
from labelstack.images.tta import TRANSFORMS
from labelstack.params import Model, Params, digest, load_params
from labelstack.pipeline import paths
from labelstack.pipeline.common import choices, done, known, label_table, save_decision, targets, validation_folds
from labelstack.pipeline.datasets import test_data, validation_data
from labelstack.pipeline.scored_sets import log_scored
from labelstack.predictions import read_predictions, write_predictions
from labelstack.stacking.crossfit import cross_fit, primary_key, scores
from labelstack.stacking.decisions import fit_decision
from labelstack.tracking.run_file import read_run_json
from labelstack.tracking.runs import connect


def run(name: str) -> None:
    """Write data/predictions/<name>, models/base/<name>/thresholds.json and metrics/predict/<name>.json."""
    params = load_params()
    model = known(name, params.models, "base model")
    tracker = connect(params.tracking)
    jobs = {split: _jobs(params, name, model, split) for split in ("validation", "test")}
    todo = [job for part in jobs.values() for job in part if not Path(job["out"]).exists()]
    with Engine(params.engine) as engine:
        for _ in engine.map(predict_shard, todo, desc=f"predict {name}", reads=_reads, writes=lambda job: [job["out"]]):
            pass
    for split, part in jobs.items():
        parts = [read_predictions(job["out"]) for job in part]
        image_id = np.concatenate([part.image_id for part in parts])
        write_predictions(paths.predictions(name, split), image_id, np.concatenate([p.probability for p in parts]))
    shutil.rmtree(_work(name))
    _score(params, name, tracker)


def predict_shard(job: Job) -> int:
    """Predict the images of one shard; the number of images.

    Batches end with the shard, so the same images share a batch wherever it is predicted.
    """
    network, forward = _network(job["model"], job["model_sha256"])
    from labelstack.networks.inference import predict

    batches = evaluation_batches(Path(job["shard"]), None, job["size"], job["batch_size"], job["resize"])
    transforms = [TRANSFORMS[transform] for transform in job["tta"]]
    image_id, probability = predict(network, batches, transforms, forward=forward)
    write_predictions(job["out"], image_id, probability)
    return len(image_id)


@lru_cache(maxsize=1)
def _network(path: str, sha256: str) -> tuple[Any, Any]:
    """A base model and its traced function, kept from task to task."""
    from labelstack.networks.determinism import deterministic_operations
    from labelstack.networks.inference import compile_predict, load_model

    deterministic_operations()
    network = load_model(path)
    return network, compile_predict(network)


def _jobs(params: Params, name: str, model: Model, split: str) -> list[Job]:
    """A job for each shard; its file is named by all that decides about the content, so a finished one is kept."""
    file = paths.base(name) / "model.keras"
    settings = {
        "model": str(file),
        "model_sha256": storage.sha256(file) if file.exists() else "",
        "size": model.image_size,
        "resize": model.resize,
        "batch_size": params.prediction.batch_size,
        "tta": list(params.prediction.tta),
    }
    jobs = []
    for shard in shard_paths(paths.shards(split)):
        key = digest([versions(), settings, storage.sha256(shard)])
        jobs.append({**settings, "shard": str(shard), "out": str(_work(name) / f"{split}-{shard.stem}-{key}.npz")})
    return jobs


def _reads(job: Job) -> list[str]:
    return [job["model"], job["shard"]]


def _work(name: str) -> Path:
    return paths.WORK / "predict" / name


def _score(params: Params, name: str, tracker: Any) -> None:
    """Thresholds and scores on validation, into the run that trained the model."""
    rows = targets("validation")
    P = read_predictions(paths.predictions(name, "validation")).rows_of(rows.image_id)
    folds = validation_folds(params, rows.Y)
    labels = label_table()
    chosen = choices(params, labels)
    fitted = cross_fit(P, rows.Y, folds, **chosen)
    write_predictions(paths.cross_fitted(name, stacker=False), rows.image_id, fitted.labels.astype(np.float32))
    decision = fit_decision(rows.Y, P, chosen["thresholds"], chosen["metric"], groups=chosen["groups"], folds=folds)
    result = scores(rows.Y, P, folds, **chosen, fitted=fitted, decision=decision)
    file = paths.base(name) / "thresholds.json"
    save_decision(file, labels["label_id"].to_numpy(), decision)
    storage.write_json(paths.METRICS / "predict" / f"{name}.json", {k: round(v, 6) for k, v in result.items()})
    trained = read_run_json(paths.base(name) / "run.json")
    with tracker.run("train", name, run_id=trained["run_id"]) as run_:
        validation = validation_data(params, rows)
        run_.log_datasets(validation, test_data(params, read_predictions(paths.predictions(name, "test")).image_id))
        run_.log_metrics(result, model=name, dataset=validation)
        run_.log_artifact(file, "")
        log_scored(run_, name, rows, labels, fitted.labels)
    primary = primary_key(params.metric)
    done("predict", f"{name}: {len(P)} validation images, {primary} {result[primary]:.4f}", paths.base(name))
