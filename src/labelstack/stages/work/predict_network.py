"""One base model's predictions of validation and test, shard by shard; its decision rule and scores."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelstack.compute.engine import Engine, Job
from labelstack.compute.worker import package_versions
from labelstack.images.loader import evaluation_batches
from labelstack.images.pixels.tta import TRANSFORMS
from labelstack.images.shards.shard_files import shard_paths
from labelstack.params import Params, digest
from labelstack.params.models import ModelSection
from labelstack.predictions import read_predictions, write_predictions
from labelstack.scoring.metric import metric_of
from labelstack.stacking.crossfit import CrossFitted, cross_fit, scores
from labelstack.stacking.deciding.decisions import fit_decision
from labelstack.stages import paths
from labelstack.stages.choosing import choices, validation_folds
from labelstack.stages.cross_fitted import save_cross_fitted
from labelstack.stages.label_sets import save_decision
from labelstack.stages.rows import Targets, label_table, targets
from labelstack.support import storage
from labelstack.support.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Predicted:
    """What the validation images say of a base model.

    Attributes
    ----------
    rows, labels : the validation rows and the label table
    fitted : what is cross-fitted of the rows
    scores : by name
    """

    rows: Targets
    labels: pd.DataFrame
    fitted: CrossFitted
    scores: dict[str, float]


def compute(params: Params, name: str, code: str) -> Predicted:
    """Write data/predictions/<name>, models/base/<name>/thresholds.json and metrics/predict/<name>.json.

    ``code`` is the stage's digest: parts that other code left unfinished are not taken.

    Raises
    ------
    UserError
        When the model is not trained or a split not downloaded; every such lack is named.
    """
    model = params.models[name]
    _check_inputs(name)
    jobs = {split: _jobs(params, name, model, split, code) for split in _SPLITS}
    todo = [job for part in jobs.values() for job in part if not Path(job["out"]).exists()]
    with Engine(params.engine) as engine:
        for _ in engine.map(predict_shard, todo, desc=f"predict {name}", reads=_reads, writes=lambda job: [job["out"]]):
            pass
    for split, part in jobs.items():
        parts = [read_predictions(job["out"]) for job in part]
        image_id = np.concatenate([part.image_id for part in parts])
        write_predictions(paths.predictions(name, split), image_id, np.concatenate([p.probability for p in parts]))
    predicted = _score(params, name)
    shutil.rmtree(_work(name), ignore_errors=True)
    return predicted


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


def _check_inputs(name: str) -> None:
    lacking = [
        f"{paths.shards(split)}: no shards. Run `dvc repro` (or `labelstack stage download {split}`) first."
        for split in _SPLITS
        if not shard_paths(paths.shards(split))
    ]
    if not (paths.base(name) / "model.keras").exists():
        file = paths.base(name) / "model.keras"
        lacking.append(f"{file}: not found. Run `dvc repro` (or `labelstack stage train {name}`) first.")
    if lacking:
        raise UserError("\n".join(lacking))


def _jobs(params: Params, name: str, model: ModelSection, split: str, code: str) -> list[Job]:
    """A job for each shard; its file is named by all that decides about the content, so a finished one is kept."""
    file = paths.base(name) / "model.keras"
    settings = {
        "model": str(file),
        "model_sha256": storage.sha256(file),
        "size": model.image_size,
        "resize": model.resize,
        "batch_size": params.prediction.batch_size,
        "tta": list(params.prediction.tta),
    }
    jobs = []
    for shard in shard_paths(paths.shards(split)):
        key = digest([package_versions(), code, settings, storage.sha256(shard)])
        jobs.append({**settings, "shard": str(shard), "out": str(_work(name) / f"{split}-{shard.stem}-{key}.npz")})
    return jobs


def _reads(job: Job) -> list[str]:
    return [job["model"], job["shard"]]


def _work(name: str) -> Path:
    return paths.WORK / "predict" / name


def _score(params: Params, name: str) -> Predicted:
    """The decision rule and the scores on validation."""
    rows, labels = targets("validation"), label_table()
    P = read_predictions(paths.predictions(name, "validation")).rows_of(rows.image_id)
    folds = validation_folds(params, rows.Y)
    chosen = choices(params, labels)
    fitted = cross_fit(P, rows.Y, folds, **chosen)
    save_cross_fitted(paths.cross_fitted(name, stacker=False), rows.image_id, fitted, metric_of(params.metric))
    decision = fit_decision(rows.Y, P, chosen["thresholds"], chosen["metric"], groups=chosen["groups"], folds=folds)
    measured = scores(rows.Y, P, folds, **chosen, fitted=fitted, decision=decision)
    save_decision(paths.base(name) / "thresholds.json", labels["label_id"].to_numpy(), decision)
    storage.write_json(paths.METRICS / "predict" / f"{name}.json", {k: round(v, 6) for k, v in measured.items()})
    return Predicted(rows, labels, fitted, measured)
