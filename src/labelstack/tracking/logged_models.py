"""A run's model as MLflow's logged model: made once, its files stored there and nowhere else."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import labelstack

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

FALLBACK = "model"  # the run's folder for the files where a server knows no logged models


def model_name(name: str) -> str:
    """A name that MLflow accepts for a logged model."""
    return re.sub(r"[/:.%\"']", "_", name)


def tensor_signature(inputs: Sequence[int], outputs: Sequence[int], dtype: str = "float32") -> dict[str, str]:
    """An MLmodel's signature of one array in, one float32 array out; shapes with -1 for the rows."""

    def tensor(dtype: str, shape: Sequence[int]) -> str:
        return json.dumps([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": list(shape)}}])

    return {"inputs": tensor(dtype, inputs), "outputs": tensor("float32", outputs)}


def apply_model(client: MlflowClient, run_id: str, entry: Mapping[str, Any], source: Path) -> None:
    """Write a journal's entry: one model for each run and name, however often it is sent."""
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    name = entry["name"]
    model = _of_run(client, run, name) or _unfinished(client, run, name)
    if model is None:
        model = client.create_logged_model(
            run.info.experiment_id,
            name,
            source_run_id=run_id,
            params=entry["params"],
            model_type=entry["model_type"],
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "MLmodel"
        file.write_text(json.dumps(_mlmodel(model, entry), indent=2) + "\n")  # JSON is YAML
        client.log_model_artifact(model.model_id, str(file))
    send = client.log_model_artifacts if source.is_dir() else client.log_model_artifact
    send(model.model_id, str(source))
    client.finalize_logged_model(model.model_id, "READY")
    if all(output.model_id != model.model_id for output in _outputs(run)):
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


def model_id_of(client: MlflowClient, run_id: str, name: str) -> str | None:
    """The id of a model that this run logged, else None."""
    model = _of_run(client, client.get_run(run_id), name)
    return None if model is None else str(model.model_id)


def _of_run(client: MlflowClient, run: Run, name: str) -> LoggedModel | None:
    models = (client.get_logged_model(output.model_id) for output in _outputs(run))
    return next((model for model in models if model.name == name), None)


def _unfinished(client: MlflowClient, run: Run, name: str) -> LoggedModel | None:
    """A model that an attempt killed in the middle left behind, not yet among the run's outputs."""
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    return next((model for model in found if model.name == name), None)


def _outputs(run: Run) -> list[Any]:
    return run.outputs.model_outputs if run.outputs else []


def _mlmodel(model: LoggedModel, entry: Mapping[str, Any]) -> dict[str, Any]:
    """MLflow's description of a model; its own way to make one imports frameworks and infers requirements."""
    import mlflow

    flavour = {"kind": entry["model_type"], "data": entry["data"], "version": labelstack.__version__}
    described: dict[str, Any] = {
        "artifact_path": model.artifact_location,
        "flavors": {"labelstack": flavour},
        "mlflow_version": mlflow.__version__,
        "model_id": model.model_id,
        "model_uuid": model.model_id,
        "run_id": model.source_run_id,
    }
    return described | ({"signature": entry["signature"]} if entry["signature"] else {})
