"""Stage `train@{model}`: one base model, one MLflow run."""

from __future__ import annotations

import shutil

import numpy as np

from labelstack.params import load_params
from labelstack.params.models import ModelSection
from labelstack.report.figures import figure_png, training_curves
from labelstack.stages import paths
from labelstack.stages.code import chosen, kept_code_digest
from labelstack.stages.common import done, flat, keep_run_id, known, lineage, run_id_of, work_folder
from labelstack.stages.logged_data import training_data
from labelstack.stages.members import base_model
from labelstack.stages.rows import read_rows
from labelstack.stages.work.train_network import compute, split_holdout
from labelstack.tracking.logged_models import tensor_signature
from labelstack.tracking.run_file import write_run_json
from labelstack.tracking.runs import connect


def run(name: str) -> None:
    """Train ``models.<name>`` and write models/base/<name>; a killed attempt is taken up where it stopped."""
    params = load_params()
    model: ModelSection = known(name, params.models, "base model")
    sections = {
        "model": model,
        "augment": params.policy(model),
        "training": params.training.model_dump(mode="json", exclude={"workers"}),  # they decide nothing
        "seed": params.seed,
    } | ({"metric": params.metric} if params.training.holdout else {})
    tags = lineage([paths.shards("train"), paths.manifest("train"), paths.LABELS], sections)
    work = work_folder("train", name, tags, kept_code_digest("train", *chosen(params, "train", name)))
    tracker = connect(params.tracking)
    with tracker.run(*base_model(name).run_name, params=flat(sections), tags=tags, run_id=run_id_of(work)) as run_:
        keep_run_id(work, run_.run_id)
        rows, holdout = split_holdout(params, read_rows("train"))
        run_.log_datasets(*training_data(params, rows, holdout))
        trained = compute(params, name, rows, holdout, work, lambda epoch, scores: run_.log_history([scores]))
        own, history = base_model(name), trained.history
        # An attempt killed between its checkpoint and its log left a gap; steps already there are kept.
        logged = history.drop(columns="seconds").replace({np.nan: None})
        run_.log_history({str(key): value for key, value in row.items()} for row in logged.to_dict("records"))
        run_.log_bytes(figure_png(training_curves({name: history})), "plots/training_curves.png")
        shape = tensor_signature([-1, model.image_size, model.image_size, 3], [-1, rows.Y.shape[1]], "uint8")
        run_.log_model(name, own.learnt, own.kind, flat({"model": model}), shape)
        run_.log_artifact(own.folder / "history.csv", "")
        summary = {
            "epochs": len(history),
            "best_epoch": trained.best_epoch,
            "train_seconds": float(history["seconds"].sum()),
        }
        run_.log_metrics({key: float(value) for key, value in summary.items()})
        write_run_json(own.run_file, run_, summary, extra={"weights_digest": trained.weights_digest})
    shutil.rmtree(work)
    epochs = f"{len(history)} epochs, best {trained.best_epoch}, {summary['train_seconds']:.0f} s"
    done("train", f"{name}: {epochs}", own.folder)
