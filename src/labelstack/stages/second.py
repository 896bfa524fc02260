"""Stage `second@{model}`: the networks of a second-round model, one after another; a MLflow run for each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from labelstack.params import Params, digest, load_params
from labelstack.stages import paths
from labelstack.stages.code import chosen, kept_code_digest
from labelstack.stages.common import done, flat, keep_run_id, known, lineage, run_id_of, work_folder
from labelstack.stages.fold_files import read_fitted
from labelstack.stages.logged_data import training_data
from labelstack.stages.members import Network, second_round_model
from labelstack.stages.train import learned_rows, log_network
from labelstack.stages.work.second_networks import find_boxes, keep, learn, numbers, predict, restored, seen_whole
from labelstack.support import storage
from labelstack.support.box import Boxes
from labelstack.tracking.run_file import read_run_json
from labelstack.tracking.runs import Tracker, connect


def run(name: str) -> None:
    """Train and predict with ``second_round.<name>``; a killed attempt is taken up where it stopped."""
    params = load_params()
    section = known(name, params.second_round, "second-round model")
    own = second_round_model(name, params.networks)
    deciding = {
        "second": section,
        "networks": {fold: params.network(name, fold).as_trained() for fold in own.folds},
        "augment": params.augment,
        "training": params.training.deciding,
        "seed": params.seed,
        "task": params.dataset.task,
        "needs": storage.read_json(paths.NEEDS).get(name),
    } | ({"metric": params.metric} if params.stops_early or section.by_metric else {})
    fitted = [paths.fit_rows(fold) for fold in own.folds]
    tags = lineage([paths.shards("train"), paths.manifest("train"), paths.LABELS, paths.view(name), *fitted], deciding)
    code = digest([kept_code_digest("second", *chosen(params, "second", name, fold)) for fold in own.folds])
    work = work_folder("second", name, tags, code)
    boxes = find_boxes(params, name, work / "boxes.parquet")
    tracker = connect(params.tracking)
    logged = {key: deciding[key] for key in ("second", "training", "seed")}
    for network in own.networks:
        _train(params, network, boxes, work / network.fold, tracker, logged, tags)
        predict(params, network, boxes, code, work / network.fold)
    whole, total = seen_whole(own.networks, boxes, params.groups_of(name))
    for network in own.networks:
        with tracker.run(*network.run_name, run_id=read_run_json(network.run_file)["run_id"]) as run_:
            run_.log_metrics({"images_seen_whole": float(whole)})
    shutil.rmtree(work)
    networks = f"{len(own.folds)} network{'s' if len(own.folds) > 1 else ''} after {' and '.join(section.after)}"
    done("second", f"{name}: {networks}, {whole} of {total} predicted images seen whole", own.folder)


def _train(
    params: Params,
    own: Network,
    boxes: dict[str, Boxes],
    work: Path,
    tracker: Tracker,
    sections: dict[str, Any],
    tags: dict[str, str],
) -> None:
    """Train one network, unless that is done."""
    if restored(own, work):
        return
    model = params.network(own.model, own.fold)
    work.mkdir(parents=True, exist_ok=True)
    logged = flat({"network": model.as_trained(), **sections})
    with tracker.run(*own.run_name, params=logged, tags=tags, run_id=run_id_of(work)) as run_:
        keep_run_id(work, run_.run_id)
        asked = read_fitted(own.fold)
        rows, holdout = learned_rows(asked, model)
        run_.log_datasets(*training_data(params, rows, holdout))
        trained = learn(params, own, rows, holdout, boxes, work, lambda epoch, scores: run_.log_history([scores]))
        run_.log_metrics(numbers(params, own.model, rows))
        log_network(run_, own, model, trained, rows.Y.shape[1])
    keep(own, work)
