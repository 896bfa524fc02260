"""A registry version of before: made once by ``make``, kept in ``kept/``, put into any store by ``put``.

``kept/README.md`` says what is in it. ``make`` is what ``python -m registry.kept_version FOLDER`` does in tests/.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import yaml

from labelstack.tracking.runs import Tracker
from tiny import REPOSITORY, Workspace

KEPT = Path(__file__).with_name("kept")
NAME = "labelstack"
IMAGES = ("1.jpg", "6.jpg", "8.jpg")
# Two base models of layers that labelstack wrote, five kinds of stackers, and every one of them has a say.
CHANGE: dict[str, Any] = {
    "sample": {"n_train": 40, "n_validation": 40, "n_test": 12, "image_size": 32},
    "images": {"store_size": 32, "shard_rows": 6},
    "models": {
        "gradients": {
            "backbone": "descriptors",
            "image_size": 32,
            "resize": "letterbox",
            "head": {"pooling": "flatten", "units": [], "dropout": 0},
            "epochs": 2,
        },
        "outline": {
            "backbone": "silhouette",
            "image_size": 32,
            "options": {"filters": [4, 4]},
            "head": {"pooling": "average", "units": [], "dropout": 0},
            "epochs": 1,
        },
    },
    "folds": {"k": 2, "nested": False},
    "stackers": {
        "cnn": {"kind": "cnn", "filters": [2], "padding": "same", "units": 2, "epochs": 1},
        "xgboost": {"kind": "xgboost", "features": "own", "n_estimators": 1, "max_depth": 1},
        "ridge": {"kind": "ridge"},
        "logistic": {"kind": "logistic", "context": 0},
        "weights": {"kind": "per_label_weights"},
    },
    "blend": {"method": "equal"},
    "thresholds": {"strategy": "coordinate_ascent"},
    "tracking": {"probe_images": 6},
}


def unpack(folder: Path) -> Path:
    """The kept version's MLflow model, in a new folder below ``folder``."""
    with tarfile.open(KEPT / "version.tar.xz") as archive:
        assert all(one.isfile() or one.isdir() for one in archive)
        assert not any(".." in one.name for one in archive)
        archive.extractall(folder)  # its argument `filter` came with Python 3.11.4; the archive is our own
    return folder / "model"


def expected() -> dict[str, dict[str, Any]]:
    """What the version said of the kept images on the day it was registered: ``label_id`` and ``labels`` of each."""
    found: dict[str, dict[str, Any]] = json.loads((KEPT / "expected.json").read_text())
    return found


def put(tracker: Tracker) -> None:
    """Register the kept version as number 1 of a store, as candidate and champion, with the tags it had."""
    from mlflow.entities import LoggedModelOutput

    client = tracker.client
    with tracker.run("blend", "ensemble") as run, tempfile.TemporaryDirectory() as temporary:
        model = client.create_logged_model(
            tracker.experiment_id, "ensemble", source_run_id=run.run_id, model_type="ensemble"
        )
        files = unpack(Path(temporary))
        own = {"model_id": model.model_id, "model_uuid": model.model_id, "run_id": run.run_id}
        described = yaml.safe_load((files / "MLmodel").read_text()) | own | {"artifact_path": model.artifact_location}
        (files / "MLmodel").write_text(yaml.safe_dump(described))
        client.log_model_artifacts(model.model_id, str(files))
        client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, step=0)])
        client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model(NAME)
    tags = json.loads((KEPT / "tags.json").read_text())
    with tracker.as_default():
        client.create_model_version(NAME, f"models:/{model.model_id}", run.run_id, tags=tags, model_id=model.model_id)
    for alias in ("candidate", "champion"):
        client.set_registered_model_alias(NAME, alias, "1")


def make(folder: Path) -> None:
    """Make a version in a new folder by `dvc repro`, and keep it in place of the one in ``kept/``."""
    from mlflow import MlflowClient

    workspace = Workspace(folder.resolve(), CHANGE)
    workspace.run("dvc", "repro")
    shutil.rmtree(KEPT / "images", ignore_errors=True)
    (KEPT / "images").mkdir(parents=True)
    for name in IMAGES:
        shutil.copyfile(workspace.root / "data/sample/images/test" / name, KEPT / "images" / name)
    rows = workspace.run("labelstack", "predict", *(str(KEPT / "images" / name) for name in IMAGES), "--json").stdout
    said = {Path(row["image"]).name: row for row in map(json.loads, rows.splitlines())}
    _write("expected", {name: {key: row[key] for key in ("label_id", "labels")} for name, row in said.items()})
    _write("tags", MlflowClient(f"sqlite:///{workspace.root}/mlflow.db").get_model_version(NAME, "1").tags)
    (described,) = (workspace.root / "mlartifacts").rglob("artifacts/ensemble_model.py")
    model = described.parent
    with tarfile.open(KEPT / "version.tar.xz", "w:xz", preset=9) as archive:
        for file in sorted(file for file in model.rglob("*") if file.is_file()):
            content = file.read_bytes()
            if file == model / "MLmodel":
                content = _without_places(content.decode(), workspace.root).encode()
            entry = tarfile.TarInfo(f"model/{file.relative_to(model).as_posix()}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def _without_places(text: str, root: Path) -> str:
    """MLmodel without this machine's folders; its own file names stay, since MLflow looks at them."""
    text = text.replace(root.as_uri(), "file:///workspace").replace(str(REPOSITORY), "/repository")
    return re.sub(r"file:///\S+/ensemble$", "file:///made/ensemble", text, flags=re.MULTILINE)


def _write(name: str, content: dict[str, Any]) -> None:
    (KEPT / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
