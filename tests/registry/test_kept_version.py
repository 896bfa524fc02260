"""A version that was registered long ago is loaded, served, asked and rebuilt by the labelstack of today."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ensemble.test_serving import Served
from labelstack.params.tracking import TrackingSection
from labelstack.predictions import read_predictions
from labelstack.registry.verification import TOLERANCE
from labelstack.support import storage
from labelstack.tracking.runs import Tracker, connect
from registry.kept_version import KEPT, expected, put, unpack
from stores import answers, free_port, wait_for
from tiny import PATIENCE, environment

VERSION = "models:/labelstack/1"
LABELS = expected()
IMAGES = [KEPT / "images" / name for name in LABELS]
# In a process that finds no labelstack but the one that the version brings along.
LOADING = """
import importlib.util, json, sys
from pathlib import Path
sys.path = [place for place in sys.path if not (Path(place) / "labelstack").exists()]
assert importlib.util.find_spec("labelstack") is None
import mlflow, pandas as pd
rows = mlflow.pyfunc.load_model(sys.argv[1]).predict(pd.DataFrame({"image": sys.argv[2:]}))
print(json.dumps({"code": sys.modules["labelstack"].__file__, "rows": rows.to_dict("records")}))
"""


@dataclass(frozen=True)
class Store:
    """A store of today in which the kept version is number 1."""

    root: Path
    tracker: Tracker

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a shell that knows the store."""
        silent = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
        return environment(quick=True) | silent | {"MLFLOW_TRACKING_URI": self.tracker.uri}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Type a command in the store's folder."""
        return subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=PATIENCE
        )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("kept")
    tracker = connect(TrackingSection(), root)
    put(tracker)
    return Store(root, tracker)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kept files."""
    return unpack(tmp_path_factory.mktemp("files"))


def base64_of(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def labels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in ("label_id", "labels")} for row in rows]


def test_mlflow_loads_it_where_todays_labelstack_is_imported(
    store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # MLflow puts the version's code in front
    import mlflow

    with store.tracker.as_default():
        loaded = mlflow.pyfunc.load_model(VERSION)
    given = pd.DataFrame({"image": [base64_of(file) for file in IMAGES]})
    found = loaded.predict(given, params={"all_probabilities": True})
    assert found["error"].tolist() == [None] * len(IMAGES)
    assert labels(found.to_dict("records")) == list(LABELS.values())
    recorded = read_predictions(model / "artifacts/ensemble/record/predictions/blend.npz")
    then = recorded.rows_of(np.array([int(file.stem) for file in IMAGES]))
    np.testing.assert_allclose(np.stack(found["probabilities"].tolist()), then, rtol=0, atol=TOLERANCE)


def test_it_loads_with_the_source_that_it_brings_along(store: Store) -> None:
    done = store.run(sys.executable, "-c", LOADING, VERSION, *(base64_of(file) for file in IMAGES))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["code"]).parts[-3:] == ("code", "labelstack", "__init__.py")
    assert labels(found["rows"]) == list(LABELS.values())


def test_predict_labels_images_with_it(store: Store) -> None:
    done = store.run("labelstack", "predict", *map(str, IMAGES), "--json")
    assert done.returncode == 0, done.stderr
    assert labels([json.loads(line) for line in done.stdout.splitlines()]) == list(LABELS.values())


def test_predict_draws_nothing_with_a_version_that_finds_no_regions(store: Store) -> None:
    done = store.run("labelstack", "predict", str(IMAGES[0]), "--model", "1", "--draw", "drawn")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "--draw: labelstack v1 labels whole images, so there are no regions to draw" in done.stderr
    assert "give a version that was registered with segmenters" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (store.root / "drawn").exists()


@pytest.fixture
def served(store: Store) -> Iterator[Served]:
    port, log = free_port(), store.root / "log"
    command = ["mlflow", "models", "serve", "-m", VERSION, "--env-manager", "local", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=store.root, env=store.environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/ping"), 120)
        assert process.poll() is None, log.read_text()
        yield Served(port, "", KEPT / "images", log, {})
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def test_mlflows_server_answers_with_it(served: Served) -> None:
    assert labels(served.rows([base64_of(file) for file in IMAGES])) == list(LABELS.values())


def test_rebuild_restores_it_and_everything_agrees(store: Store, model: Path, tmp_path: Path) -> None:
    done = store.run("labelstack", "rebuild", "1", "--to", str(tmp_path / "again"), "--verify", "--submit")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^(\w+) +(base model|stacker|blend|label sets) +(\d+) .* ok", done.stdout, re.MULTILINE)
    assert rows == [
        ("gradients", "base model", "6"),
        ("outline", "base model", "6"),
        ("cnn", "stacker", "12"),
        ("xgboost", "stacker", "12"),
        ("ridge", "stacker", "12"),
        ("logistic", "stacker", "12"),
        ("weights", "stacker", "12"),
        ("blend", "blend", "12"),
        ("blend", "label sets", "12"),
    ]
    assert "7 members and the blend pass" in done.stdout
    assert "submission written again, SHA-256 as recorded" in done.stdout
    ensemble, again = model / "artifacts/ensemble", tmp_path / "again"
    (submission,) = (again / "submission").iterdir()
    recorded = json.loads((ensemble / "record/submission.json").read_text())
    assert storage.sha256(submission) == recorded["sha256"]
    for before, now in {
        "files/params.yaml": "params.yaml",
        "members/outline/model.keras": "models/networks/outline/all/model.keras",
        "stackers/xgboost/fold-1/boosters.zip": "models/stackers/xgboost/folds/fold-1/boosters.zip",
    }.items():
        assert (again / now).read_bytes() == (ensemble / before).read_bytes(), now
    script = (model / "ensemble_model.py").read_bytes()
    assert [file.read_bytes() for file in (again / "src/labelstack").rglob("ensemble_model.py")] == [script]
