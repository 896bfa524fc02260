"""Stage `predict@{model}`: validation and test predictions of one base model, its thresholds and scores."""

from __future__ import annotations

from labelstack.params import load_params
from labelstack.predictions import read_predictions
from labelstack.scoring.metric import metric_of
from labelstack.stages.code import chosen, kept_code_digest
from labelstack.stages.common import done, known
from labelstack.stages.logged_data import test_data, validation_data
from labelstack.stages.members import base_model
from labelstack.stages.scored_sets import log_scored
from labelstack.stages.work.predict_network import compute
from labelstack.tracking.run_file import read_run_json
from labelstack.tracking.runs import connect


def run(name: str) -> None:
    """Predict with ``models.<name>`` and score it; thresholds and scores go into the run that trained it."""
    params = load_params()
    known(name, params.models, "base model")
    own = base_model(name)
    trained = read_run_json(own.run_file)
    tracker = connect(params.tracking)
    predicted = compute(params, name, kept_code_digest("predict", *chosen(params, "predict", name)))
    with tracker.run(*own.run_name, run_id=trained["run_id"]) as run_:
        validation = validation_data(params, predicted.rows)
        run_.log_datasets(validation, test_data(params, read_predictions(own.test).image_id))
        run_.log_metrics(predicted.scores, model=name, dataset=validation)
        run_.log_artifact(own.rule, "")
        log_scored(run_, name, predicted.rows, predicted.labels, predicted.fitted, metric_of(params.metric))
    primary = metric_of(params.metric).cross_fitted
    score = predicted.scores[primary]
    done("predict", f"{name}: {len(predicted.rows)} validation images, {primary} {score:.4f}", own.folder)
