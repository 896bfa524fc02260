"""Stage `train@{model}-{fold}`: one network of a base model, one MLflow run."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np

from labelstack.params import Params, load_params
from labelstack.params.models import ModelSection
from labelstack.report.figures import figure_png, training_curves
from labelstack.stages import paths
from labelstack.stages.code import chosen, kept_code_digest
from labelstack.stages.common import done, flat, keep_run_id, known, lineage, run_id_of, work_folder
from labelstack.stages.fold_files import Fitted, read_fitted
from labelstack.stages.logged_data import training_data
from labelstack.stages.members import Network
from labelstack.stages.rows import Rows, named_rows
from labelstack.stages.trained import Trained
from labelstack.stages.weights_content import weights_sha256
from labelstack.stages.work.train_network import compute
from labelstack.support.errors import UserError
from labelstack.tracking.logged_models import tensor_signature
from labelstack.tracking.run import Run
from labelstack.tracking.run_file import write_run_json
from labelstack.tracking.runs import connect


def known_networks(params: Params, name: str, fold: str | None) -> list[Network]:
    """The network of a fold, or of every fold; raise ``UserError`` with the valid names when there is none."""
    known(name, params.models, "base model")
    if fold is not None and fold not in params.networks:
        raise UserError(f"{fold}: {name} has no network of this fold (there are: {', '.join(params.networks)})")
    return [Network(name, one) for one in ([fold] if fold is not None else params.networks)]


def run(name: str, fold: str | None = None) -> None:
    """Train ``models.<name>`` for a fold, or one after another for all.

    Writes models/networks/<name>/<fold>; a killed attempt is taken up where it stopped.
    """
    params = load_params()
    for network in known_networks(params, name, fold):
        _train(params, network)


def _train(params: Params, own: Network) -> None:
    model = params.network(own.model, own.fold)
    sections: dict[str, Any] = {
        "model": model.as_trained(),
        "augment": params.policy(model),
        "training": params.training.deciding,
        "seed": params.seed,
    } | ({"metric": params.metric} if params.stops_early else {})
    if (begun_with := weights_sha256(model.weights, fetch=True)) is not None:
        sections["weights_sha256"] = begun_with
    inputs = [paths.shards("train"), paths.manifest("train"), paths.LABELS, paths.fit_rows(own.fold)]
    tags = lineage(inputs, sections)
    code = kept_code_digest("train", *chosen(params, "train", own.model, own.fold))
    work = work_folder("train", f"{own.model}-{own.fold}", tags, code)
    tracker = connect(params.tracking)
    with tracker.run("train", own.name, params=flat(sections), tags=tags, run_id=run_id_of(work)) as run_:
        keep_run_id(work, run_.run_id)
        asked = read_fitted(own.fold)
        rows, holdout = learned_rows(asked, model)
        run_.log_datasets(*training_data(params, rows, holdout))
        trained = compute(params, own, rows, holdout, work, lambda epoch, scores: run_.log_history([scores]))
        log_network(run_, own, model, trained, rows.Y.shape[1])
    shutil.rmtree(work)
    seconds = trained.history["seconds"].sum()
    epochs = f"{len(trained.history)} epochs, best {trained.best_epoch}, {seconds:.0f} s"
    done("train", f"{own.name}: {epochs}", own.folder)


def learned_rows(asked: Fitted, model: ModelSection) -> tuple[Rows, Rows]:
    """Rows of train that a network learns from, and those held out, of the label groups that it knows.

    Raises
    ------
    UserError
        When none know them.
    """
    rows, holdout = (named_rows("train", ids).of_groups(model.groups) for ids in (asked.fit, asked.holdout))
    lacking = "to learn from" if not len(rows) else "held out" if len(asked.holdout) and not len(holdout) else ""
    if lacking:
        raise UserError(f"groups: {', '.join(model.groups)}: no image of train {lacking} knows them")
    return rows, holdout


def log_network(run_: Run, own: Network, model: ModelSection, trained: Trained, n_labels: int) -> None:
    """Log what a network's training gave, and write its run.json."""
    history = trained.history
    # An attempt killed between its checkpoint and its log left a gap; steps already there are kept.
    logged = history.drop(columns="seconds").replace({np.nan: None})
    run_.log_history({str(key): value for key, value in row.items()} for row in logged.to_dict("records"))
    run_.log_bytes(figure_png(training_curves({own.name: history})), "plots/training_curves.png")
    shape = tensor_signature(
        [-1, model.image_size, model.image_size, model.region_view.channels], [-1, n_labels], "uint8"
    )
    run_.log_model(own.name, own.weights, own.kind, flat({"model": model.as_trained()}), shape)
    run_.log_artifact(own.history, "")
    summary = {
        "epochs": len(history),
        "best_epoch": trained.best_epoch,
        "train_seconds": float(history["seconds"].sum()),
    }
    run_.log_metrics({key: float(value) for key, value in summary.items()})
    write_run_json(own.run_file, run_, summary, extra={"weights_digest": trained.weights_digest})
