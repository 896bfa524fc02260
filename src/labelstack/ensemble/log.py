"""Store an ensemble as an MLflow model, without pickle and without touching MLflow's global state."""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import labelstack
from labelstack.ensemble.folder import Parts, assemble_folder
from labelstack.ensemble.integrity import write_list
from labelstack.ensemble.record import files_digest
from labelstack.params.backbone_names import OWN
from labelstack.tracking import store
from labelstack.tracking.run import Run

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec

MODEL_NAME = "ensemble"
_SCRIPT = Path(__file__).with_name("pyfunc_model.py")


@dataclass(frozen=True)
class LoggedEnsemble:
    """A stored MLflow model that isn't a registry version yet; ``uri`` is ``models:/<model_id>``.

    ``files_digest`` is the SHA-256 of its checksums.json, ``model_digest`` that of its files.json.
    """

    model_id: str
    uri: str
    run_id: str
    files_digest: str = ""
    model_digest: str = ""


def log_ensemble(run: Run, parts: Parts, *, requirements: Path, example: bytes | None = None) -> LoggedEnsemble:
    """Store the ensemble as a pyfunc model of a run.

    The model carries labelstack's own source (``code_paths``) and the pinned requirements, so that
    ``mlflow.pyfunc.load_model`` works where labelstack is not installed; where it is already imported, that one runs.

    Parameters
    ----------
    requirements : Path
        Pinned requirements file; its lines become the model's environment (MLflow's own inference takes 30 s). Where
        there is no such file: what labelstack requires, in the versions that are installed.
    example : bytes, optional
        An image file for the input example; default: a small drawing.
    """
    import mlflow
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    client, experiment = run.tracker.client, run.tracker.experiment_id
    pinned = requirement_lines(requirements) if requirements.exists() else installed_requirements()
    with tempfile.TemporaryDirectory(prefix="labelstack-") as temporary:
        folder, code = Path(temporary) / MODEL_NAME, Path(temporary) / "labelstack"
        assemble_folder(folder, parts)
        files = files_digest(folder)
        shutil.copytree(Path(labelstack.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        with store.explained(run.tracker.uri, "store the ensemble"):
            model = client.create_logged_model(experiment, MODEL_NAME, source_run_id=run.run_id, model_type=MODEL_NAME)
            status = "FAILED"
            try:
                mlflow.pyfunc.save_model(
                    path=Path(temporary) / "model",
                    mlflow_model=Model(
                        artifact_path=model.artifact_location,
                        run_id=run.run_id,
                        model_uuid=model.model_id,
                        model_id=model.model_id,
                    ),
                    python_model=str(_SCRIPT),
                    artifacts={MODEL_NAME: folder.as_uri()},  # MLflow resolves escapes in plain paths too
                    code_paths=[str(code)],
                    signature=_signature(regions=parts.regions is not None),
                    input_example=_example(example),
                    pip_requirements=pinned,
                    metadata={"labelstack": labelstack.__version__},
                )
                _keep_bytecode_out(Path(temporary) / "model")
                whole = write_list(Path(temporary) / "model")
                client.log_model_artifacts(model.model_id, str(Path(temporary) / "model"))
                client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, step=0)])
                status = "READY"
            finally:
                client.finalize_logged_model(model.model_id, status)
    return LoggedEnsemble(model.model_id, f"models:/{model.model_id}", run.run_id, files, whole)


def requirement_lines(path: Path) -> list[str]:
    """Requirements of a lock file: no comments, blank lines or options, and no packages of weights.

    Trained networks carry their own weights, and nothing of such a package is imported.
    """
    lines = [line.split(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    weights = {own.package for own in OWN.values()}
    return [
        line
        for line in lines
        if line and not line.startswith(("#", "-")) and line.partition("==")[0].replace("-", "_") not in weights
    ]


def installed_requirements() -> list[str]:
    """What labelstack requires without extras, each in the version that is installed here."""
    from importlib.metadata import requires, version

    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in requires("labelstack") or []]
    # Markers about the platform hold here or not; those about extras don't hold without one.
    names = [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return [f"{name}=={version(name)}" for name in names]


def _keep_bytecode_out(model: Path) -> None:
    """Put a file where Python would make the folder ``__pycache__``, beside every module.

    MLflow loads a version of a local store from where it lies, and imports the entry point before anything in it could
    object: without these files, loading would change what was registered. Python goes on without such a folder.
    """
    for folder in {file.parent for file in model.rglob("*.py")}:
        (folder / "__pycache__").write_text("A file, so that no bytecode is written beside the registered source.\n")


def _signature(*, regions: bool) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    outputs = (
        _of_photos()
        if regions
        else [
            ColSpec(Array(DataType.long), "label_id"),
            ColSpec(Array(DataType.string), "labels"),
            ColSpec(Array(DataType.double), "probability"),
            ColSpec(DataType.string, "error", required=False),
            ColSpec(Array(DataType.double), "probabilities", required=False),
        ]
    )
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "image")]),
        outputs=Schema(outputs),
        params=ParamSchema(
            [
                ParamSpec("all_probabilities", DataType.boolean, False),
                ParamSpec("attributes", DataType.string, ""),  # names with commas between; none: all
            ]
        ),
    )


def _of_photos() -> list[ColSpec]:
    """A list of regions for each photo, see ``Ensemble.regions``."""
    from mlflow.types import ColSpec, DataType
    from mlflow.types.schema import Array, Object, Property

    region = [
        Property("category_id", DataType.long),
        Property("category", DataType.string),
        Property("score", DataType.double),
        Property("attribute_id", Array(DataType.long)),
        Property("attributes", Array(DataType.string)),
        Property("probability", Array(DataType.double)),
        Property("box", Array(DataType.long)),
        Property("size", Array(DataType.long)),
        Property("runs", DataType.string),
        Property("probabilities", Array(DataType.double), required=False),
    ]
    return [ColSpec(Array(Object(region)), "regions"), ColSpec(DataType.string, "error", required=False)]


def _example(image: bytes | None) -> Any:
    import pandas as pd

    image = image or _drawn()
    return pd.DataFrame({"image": [base64.b64encode(image).decode("ascii")]})


def _drawn() -> bytes:
    """A small JPEG of a red shirt on grey."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (48, 48), (216, 216, 216))
    pen = ImageDraw.Draw(picture)
    shirt = [(16, 8), (4, 16), (9, 24), (14, 20), (14, 42), (34, 42), (34, 20), (39, 24), (44, 16), (32, 8), (24, 13)]
    pen.polygon(shirt, fill=(176, 24, 32), outline=(96, 8, 16))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
