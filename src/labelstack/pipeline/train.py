"""Stage `train@{model}`: one base model, one MLflow run."""

from __future__ import annotations

import shutil

import numpy as np

from labelstack.images.loader import TrainingBatches, evaluation_batches
from labelstack.params import Augment, Model, Params, load_params
from labelstack.pipeline import paths
from labelstack.pipeline.common import (
    Targets,
    done,
    flat,
    keep_run_id,
    known,
    lineage,
    run_id_of,
    targets,
    work_folder,
)
from labelstack.pipeline.datasets import training_data
from labelstack.report.figures import figure_png, training_curves
from labelstack.storage import replacing
from labelstack.tracking.logged_models import tensor_signature
from labelstack.tracking.run_file import write_run_json
from labelstack.tracking.runs import connect


def split_holdout(params: Params, rows: Targets) -> tuple[Targets, Targets]:
    """Train rows and the held-out part for early stopping: the same part for every model (by ``seed``)."""
    n = len(rows.image_id)
    size = min(round(n * params.training.holdout), params.training.holdout_max)
    chosen = np.zeros(n, bool)
    chosen[np.random.default_rng([params.seed, 1]).permutation(n)[:size]] = True
    return Targets(rows.image_id[~chosen], rows.Y[~chosen]), Targets(rows.image_id[chosen], rows.Y[chosen])


def policy(params: Params, model: Model) -> Augment | None:
    """The augmentation of one model: the shared policy, its own, or none."""
    if isinstance(model.augment, Augment):
        return model.augment
    return params.augment if model.augment else None


def run(name: str) -> None:
    """Train ``models.<name>`` and write models/base/<name>; a killed attempt is taken up where it stopped."""
    params = load_params()
    model: Model = known(name, params.models, "base model")
    sections = {
        "model": model,
        "augment": policy(params, model),
        "training": params.training,
        "seed": params.seed,
    } | ({"metric": params.metric} if params.training.holdout else {})
    tags = lineage([paths.shards("train"), paths.manifest("train"), paths.LABELS], sections)
    work = work_folder("train", name, tags, "networks")
    tracker = connect(params.tracking)
    with tracker.run("train", name, params=flat(sections), tags=tags, run_id=run_id_of(work)) as run_:
        keep_run_id(work, run_.run_id)
        from labelstack.networks.inference import save_model, weights_digest
        from labelstack.networks.training import train

        train_rows, holdout_rows = split_holdout(params, targets("train"))
        run_.log_datasets(*training_data(params, train_rows, holdout_rows))
        holdout = None
        if len(holdout_rows.image_id):
            batches = evaluation_batches(
                paths.shards("train"), holdout_rows.image_id, model.image_size, 256, model.resize
            )
            holdout = (np.concatenate([images for _, images in batches]), holdout_rows.Y)
        with TrainingBatches(
            paths.shards("train"),
            train_rows.image_id,
            train_rows.Y.astype(np.float32),
            size=model.image_size,
            batch_size=model.batch_size,
            seed=params.seed + model.seed,
            augment=policy(params, model),
            resize=model.resize,
            workers=params.training.workers,
            shuffle_shards=params.training.shuffle_shards,
        ) as train_batches:
            result = train(
                model,
                params.training,
                train_batches,
                holdout,
                n_labels=train_rows.Y.shape[1],
                prior=train_rows.Y.mean(0, dtype=np.float32),
                seed=params.seed + model.seed,
                work=work,
                metric=params.metric,
                on_epoch=lambda epoch, scores: run_.log_history([scores]),
            )
        out = paths.base(name)
        save_model(result.model, out / "model.keras")
        history = result.history
        with replacing(out / "history.csv") as temporary:
            history.to_csv(temporary, index=False)
        with replacing(paths.METRICS / "train" / f"{name}.csv") as temporary:
            history.drop(columns="seconds").to_csv(temporary, index=False)
        # An attempt killed between its checkpoint and its log left a gap; steps already there are kept.
        logged = history.drop(columns="seconds").replace({np.nan: None})
        run_.log_history({str(key): value for key, value in row.items()} for row in logged.to_dict("records"))
        run_.log_figure(figure_png(training_curves({name: history})), "plots/training_curves.png")
        shape = tensor_signature([-1, model.image_size, model.image_size, 3], [-1, train_rows.Y.shape[1]], "uint8")
        run_.log_model(name, out / "model.keras", "base model", flat({"model": model}), shape)
        run_.log_artifact(out / "history.csv", "")
        summary = {
            "epochs": len(history),
            "best_epoch": result.best_epoch,
            "train_seconds": float(history["seconds"].sum()),
        }
        run_.log_metrics({key: float(value) for key, value in summary.items()})
        write_run_json(out / "run.json", run_, summary, extra={"weights_digest": weights_digest(result.model)})
    shutil.rmtree(work)
    done("train", f"{name}: {len(history)} epochs, best {result.best_epoch}, {summary['train_seconds']:.0f} s", out)
