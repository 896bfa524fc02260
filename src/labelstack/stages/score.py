"""Stage `score@{model}`: one base model, its networks put together; its decision rule and scores.

Of a model with a network a fold this makes a run whose children are the networks' runs; of a model with one network the
scores go into the run that trained it.
"""

from __future__ import annotations

import shutil

from labelstack.params import Params, digest, load_params
from labelstack.params.models import ModelSection
from labelstack.params.section import Section
from labelstack.predictions import read_predictions
from labelstack.scoring.metric import metric_of
from labelstack.stages.code import kept_code_digest
from labelstack.stages.common import done, flat, keep_run_id, known, lineage, run_id_of, work_folder
from labelstack.stages.logged_data import stacking_data, test_data
from labelstack.stages.members import Member, base_model
from labelstack.stages.scored_sets import log_scored
from labelstack.stages.work.score_model import compute
from labelstack.tracking.lineage import EXPERIMENT
from labelstack.tracking.run import PARENT_TAG
from labelstack.tracking.run_file import read_run_json, write_run_json
from labelstack.tracking.runs import connect


def run(name: str) -> None:
    """Score ``models.<name>``; thresholds and scores go into its run."""
    params = load_params()
    model: ModelSection = known(name, params.models, "base model")
    score(params, base_model(name, params.networks), {"model": model}, "score")


def score(params: Params, own: Member, section: dict[str, Section], stage: str) -> None:
    """Score a model whose networks have predicted; ``section`` is what its run is logged with."""
    name, scored = own.name, compute(params, own)
    trained = [read_run_json(network.run_file) for network in own.networks]
    sections = {**section, "folds": params.folds}
    tags = lineage([network.folder for network in own.networks], sections)
    work = work_folder(stage, name, tags, kept_code_digest(stage))
    tracker = connect(params.tracking)
    if params.by_fold:
        started = tracker.run(*own.run_name, params=flat(sections), tags=tags, run_id=run_id_of(work))
    else:
        started = tracker.run(*own.run_name, run_id=trained[0]["run_id"])
    with started as run_:
        if params.by_fold:
            keep_run_id(work, run_.run_id)
        validation = stacking_data(params, scored.rows)
        run_.log_datasets(validation, test_data(params, read_predictions(own.test).image_id))
        run_.log_metrics(scored.scores, model=None if params.by_fold else name, dataset=validation)
        run_.log_artifact(own.rule, "")
        log_scored(run_, name, scored.rows, scored.labels, scored.fitted, metric_of(params.metric))
        summary = {"train_seconds": sum(one["metrics"].get("train_seconds") or 0 for one in trained)}
        digests = [one["weights_digest"] for one in trained]
        learnt = digests[0] if len(digests) == 1 else digest(digests)
        write_run_json(own.run_file, run_, summary, extra={"weights_digest": learnt})
    for network, its_run in zip(own.networks, trained, strict=True) if params.by_fold else []:
        if its_run["tags"].get(EXPERIMENT) == run_.tags.get(EXPERIMENT):  # else it belongs to another already
            with tracker.run(*network.run_name, run_id=its_run["run_id"]) as child:
                child.set_tags({PARENT_TAG: run_.run_id})
    shutil.rmtree(work)
    primary = metric_of(params.metric).cross_fitted
    done(stage, f"{name}: {len(scored.rows)} rows, {primary} {scored.scores[primary]:.4f}", own.folder)
