"""One entry of a run's journal, written to the tracking store."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelstack.tracking import store
from labelstack.tracking.datasets import dataset_input
from labelstack.tracking.logged_models import FALLBACK, apply_model, model_id_of
from labelstack.tracking.texts import without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 100  # params or tags that MLflow takes in one request
METRICS_BATCH = 1000
_logger = logging.getLogger(__name__)
_warned: set[str] = set()  # stores that were said to lack datasets or logged models


def apply(client: MlflowClient, run_id: str, entry: dict[str, Any], source: Path | None = None) -> None:
    """Write one entry to the store; metrics need a step here."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.utils import chunk_list

    kind = entry["kind"]
    if kind in ("datasets", "model"):
        _apply_extra(client, run_id, entry, source)
    elif kind == "metrics":
        about = _about(client, run_id, entry) if entry["values"] else {}
        metrics = [Metric(key, value, at, step, **about) for key, value, at, step, _ in entry["values"]]
        for batch in chunk_list(metrics, METRICS_BATCH):
            client.log_batch(run_id, metrics=batch)
    elif kind in ("params", "tags"):
        make = Param if kind == "params" else RunTag
        for batch in chunk_list([make(*item) for item in entry["values"].items()], BATCH):
            client.log_batch(run_id, **{kind: batch})
    elif kind == "status":
        client.set_terminated(run_id, entry["status"], entry["end_time"])
    else:
        send = client.log_artifacts if kind == "artifacts" else client.log_artifact
        send(run_id, str(source), entry["folder"])


def _apply_extra(client: MlflowClient, run_id: str, entry: dict[str, Any], source: Path | None) -> None:
    """Datasets and logged models, which not every server knows: one that refuses them is warned of once."""
    from mlflow.exceptions import MlflowException

    try:
        if entry["kind"] == "datasets":
            client.log_inputs(run_id, [dataset_input(content) for content in entry["datasets"]])
        else:
            assert source is not None
            apply_model(client, run_id, entry, source)
    except MlflowException as error:
        if store.unreachable(error, client.tracking_uri):
            raise
        _warn(client.tracking_uri, error)
        if source is not None:
            send = client.log_artifacts if source.is_dir() else client.log_artifact
            send(run_id, str(source), FALLBACK)


def _about(client: MlflowClient, run_id: str, entry: dict[str, Any]) -> dict[str, str]:
    """What an entry's metrics are of: the run's logged model and a dataset, where the server knows the model."""
    from mlflow.exceptions import MlflowException

    if not entry.get("model"):
        return {}
    try:
        model_id = model_id_of(client, run_id, entry["model"])
    except MlflowException as error:
        if store.unreachable(error, client.tracking_uri):
            raise
        return {}
    if model_id is None:
        return {}
    dataset = dict(zip(("dataset_name", "dataset_digest"), entry.get("dataset") or (), strict=False))
    return {"model_id": model_id, **dataset}


def _warn(uri: str, error: Exception) -> None:
    if uri not in _warned:
        _warned.add(uri)
        shown = without_credentials(uri)
        _logger.warning(
            "MLflow at %s takes no datasets or logged models, runs go on without (%s)",
            shown,
            str(error).replace(uri, shown).splitlines()[0][:200],
        )
