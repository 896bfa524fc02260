"""A student, pseudo labels and neighbours through the real pipeline: who is flattered stands apart; versions."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelstack.predictions import read_predictions
from shared import made_once, run_folder
from tiny import TINY, Workspace

pytestmark = [pytest.mark.long, pytest.mark.slow]
CHANGE: dict[str, Any] = {
    "dataset": {"format": "imet2019", "answers": "data/sample/test_answers.csv", "label_ids": None, "audit": 0.2},
    "sample": {"n_train": 150, "n_test": 40, "image_size": 40, "missing_labels": 0.15},
    "base_models": [0, 1, 2],
    "folds": {"k": 3, "method": "rarest_first", "nested": False},
    "models": {"wide": TINY["models"]["wide"] | {"epochs": 3}, "deep": TINY["models"]["deep"]},
    "second_round": {
        "small": {"kind": "student", "after": ["wide", "deep"], "teacher": "fitted", "epochs": 2},
        "sure": {"kind": "pseudo", "after": ["wide"], "margin": 0.05, "test": 0.5, "epochs": 2},
        "near": {"kind": "neighbours", "after": ["deep"], "k": 10},
    },
    "stackers": {"mean": {"kind": "mean"}},
    "metric": {"beta": 2},
    "submission": {"filename": "submission.csv"},
    "tracking": {"alone": ["small"]},
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    def make(folder: Path) -> None:
        Workspace(folder, CHANGE).repro()

    return Workspace.existing(made_once(run_folder(tmp_path_factory) / "taught", make))


def test_students_are_members_apart(taught: Workspace) -> None:
    root = taught.root
    evaluation = json.loads((root / "metrics/evaluation.json").read_text())
    scores = evaluation["scores"]
    assert list(scores) == ["wide", "deep", "small", "sure", "near", "mean", "blend"]
    assert [name for name, row in scores.items() if row.get("flattered")] == ["small", "sure"]
    assert any("small, sure" in sentence for sentence in evaluation["caveats"])
    assert {row[key] for row in evaluation["comparisons"] for key in ("better", "other")} <= {
        "wide", "deep", "near", "mean", "blend",
    }  # fmt: skip
    columns = json.loads((root / "models/stackers/mean/folds/config.json").read_text())["columns"]
    assert columns == ["wide", "deep", "near"]
    stacked = json.loads((root / "data/members/second_round.json").read_text())
    assert [name for name, _ in stacked["predictions"]] == ["small", "sure", "near"]
    assert [name for name, _ in stacked["cube"]] == ["near"]
    weights = json.loads((root / "models/ensemble/blend.json").read_text())["weights"]
    assert list(weights) == ["mean", "wide", "deep", "small", "sure", "near"]
    assert sum(weights.values()) == pytest.approx(1)
    parts = [read_predictions(root / f"data/second_networks/small/{fold}/oof.npy") for fold in range(3)]
    assert sum(len(part.image_id) for part in parts) == 120
    assert len(read_predictions(root / "data/second/small/audit.npy").image_id) == 30
    said = taught.run("labelstack", "leaderboard").stdout
    assert "flattered" in said
    assert "flattered" in (root / "report/index.html").read_text()


def test_the_version_gives_the_same_submission(taught: Workspace, tmp_path: Path) -> None:
    again, images = tmp_path / "again", str(taught.root / "data/images/test")
    said = taught.run(
        "labelstack", "rebuild", "1", "--verify", "--submit", "--images", images, "--to", str(again)
    ).stdout
    assert "maximum absolute difference 0" in said
    assert (again / "submission/submission.csv").read_bytes() == taught.submission()


def test_a_student_is_a_version_alone(taught: Workspace, tmp_path: Path) -> None:
    served = json.loads((taught.root / "models/ensemble/registration.json").read_text())["served"]
    assert list(served) == ["small", "blend"]
    assert served["small"]["uri"] == "models:/labelstack-small/1"
    assert 0 < served["small"]["bytes"] < served["blend"]["bytes"]
    assert served["small"]["images_per_second"] > 0
    page = (taught.root / "report/index.html").read_text()
    assert "Registered alone" in page
    assert "models:/labelstack-small/1" in page

    copied = taught.copy(tmp_path / "copied")
    said = copied.run("labelstack", "register", "--member", "small").stdout
    assert "labelstack-small v1 (registered before)" in said
    said = copied.run("labelstack", "register", "--member", "deep").stdout
    assert "labelstack-deep v1 (new version)" in said
    photo = next((copied.root / "data/sample/test").glob("*.png"))
    for name in ("small", "deep"):
        uri = f"models:/labelstack-{name}/1"
        row = copied.run("labelstack", "predict", "--model", uri, "--json", "--all-probabilities", str(photo)).stdout
        assert json.loads(row.splitlines()[0])["error"] is None
    again, images = tmp_path / "again", str(copied.root / "data/images/test")
    told = ("models:/labelstack-small/1", "--verify", "--submit", "--images", images, "--to", str(again))
    said = copied.run("labelstack", "rebuild", *told).stdout
    assert "maximum absolute difference 0" in said
    with contextlib.closing(sqlite3.connect(copied.root / "mlflow.db")) as database:
        cards = dict(database.execute("SELECT name, description FROM model_versions"))
    assert "Beside the ensemble" in cards["labelstack-small"]
    assert "not compared: what taught it" in cards["labelstack-small"]
    assert "Beside the ensemble" not in cards["labelstack"]
    failed = copied.run("labelstack", "register", "--member", "mean", ok=False)
    assert "mean: is a stacker" in failed.stderr


def test_what_teaches_reruns_what_it_taught(taught: Workspace, tmp_path: Path) -> None:
    copied = taught.copy(tmp_path / "copied")

    def changed(section: str, name: str, **keys: Any) -> set[str]:
        whole = copied.params()
        copied.params({**whole, section: {**whole[section], name: {**whole[section][name], **keys}}})
        copied.run("labelstack", "stage", "settings")
        found = copied.changed()
        copied.params(whole)
        return found

    assert changed("second_round", "small", scale=0.5) == {"second@small"}
    assert changed("second_round", "sure", margin=0.3) == {"second@sure"}
    own = {f"train@deep-{fold}" for fold in range(3)}
    assert changed("models", "deep", seed=3) == own | {"second@near"}  # which takes the keys of the model it is after
    file = copied.root / "data/network_predictions/deep/1/oof.npy"
    part = read_predictions(file)
    file.unlink()
    np.savez_compressed(file, image_id=part.image_id, probability=part.probability * np.float32(0.9))
    copied.run("labelstack", "stage", "settings")
    copied.run("labelstack", "stage", "needs")
    assert "second@small" in (found := copied.changed())
    assert "second@sure" not in found
