"""A folder for each class: from `labelstack init` to a registered version that gives every image exactly one label."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from labelstack.formats.manifest import read_manifest
from labelstack.predictions import read_predictions
from shared import made_once, run_folder
from tiny import Workspace

pytestmark = pytest.mark.long
CLASSES = {"blue things": (40, 60, 200), "green": (60, 200, 60), "red": (200, 50, 40)}
EACH = 40


def draw(folder: Path) -> None:
    """Pictures of one colour, noisy enough that a few look like another class's."""
    rng = np.random.default_rng(0)
    for name, colour in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(EACH):
            pixels = np.clip(rng.normal(colour, 90, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def one_label(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace of which `init` made params.yaml, with fewer epochs and stackers, run to the end."""

    def make(folder: Path) -> None:
        made = Workspace(folder)
        draw(folder / "data/mine/photos")
        made.run("labelstack", "init", "--images", "data/mine/photos", "--force")
        params = yaml.safe_load((folder / "params.yaml").read_text())
        models = {name: params["models"][name] | {"epochs": 6} for name in ("plain_cnn", "colours")}
        stackers = {"mean": {"kind": "mean"}, "logistic": {"kind": "logistic"}}
        made.params(params | {"models": models, "stackers": stackers, "training": {"holdout": 0.2, "workers": 1}})
        made.run("dvc", "repro")

    return Workspace.existing(made_once(run_folder(tmp_path_factory) / "one_label", make))


def test_init_says_the_task_and_what_it_needs(one_label: Workspace) -> None:
    params = yaml.safe_load((one_label.root / "params.yaml").read_text())
    assert params["dataset"]["task"] == "single_label"
    assert params["thresholds"] == {"strategy": "argmax", "calibration": "temperature"}


def test_every_member_is_a_distribution_over_the_labels_but_for_stackers(one_label: Workspace) -> None:
    for name in ("data/predictions/plain_cnn", "data/predictions/colours", "data/ensemble"):
        for part in ("oof", "test"):
            P = read_predictions(one_label.root / name / f"{part}.npy").probability
            np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)


def test_the_submission_has_exactly_one_label_for_every_image(one_label: Workspace) -> None:
    (file,) = (one_label.root / "submission").glob("*.csv")
    submitted = pd.read_csv(file, dtype=str, keep_default_na=False)
    assert set(submitted["labels"]) <= set(CLASSES)
    test = read_manifest(one_label.root / "data/manifest/test.parquet")
    assert submitted["image"].tolist() == test["name"].tolist()
    right = submitted["labels"] == test["name"].str.partition("/")[0]
    evaluation = json.loads((one_label.root / "metrics/evaluation.json").read_text())
    blend = evaluation["scores"]["blend"]
    assert blend["test_samples_f1"] == pytest.approx(right.mean(), abs=1e-6)
    assert blend["test_samples_f1"] == blend["test_micro_f1"] == blend["test_samples_f1_at_fixed"] > 0.5
    assert any("Exactly one label" in said for said in evaluation["caveats"])
    assert list(evaluation["decisions"]) == ["argmax"]
    rule = json.loads((one_label.root / "models/ensemble/thresholds.json").read_text())
    assert (rule["strategy"], rule["thresholds"]) == ("argmax", None)
    assert rule["decision"]["calibration"]["method"] == "temperature"


def test_the_report_speaks_of_no_threshold(one_label: Workspace) -> None:
    page = (one_label.root / "report/index.html").read_text()
    assert "Exactly one label: every image is given its most probable one" in page
    assert "One threshold" not in page
    assert 'id="decisions"' not in page
    assert 'id="thresholds"' not in page
    shown = one_label.run("labelstack", "leaderboard").stdout
    assert "in-" in shown
    assert "0.3\n" not in shown.partition("plain_cnn")[0]


def test_the_version_says_its_task_and_labels_new_pictures_by_the_same_rule(
    one_label: Workspace, tmp_path: Path
) -> None:
    draw(tmp_path / "new")
    new = sorted((tmp_path / "new").glob("*/[0-7].png"))
    out = tmp_path / "labels.jsonl"
    model = f"models:/{yaml.safe_load((one_label.root / 'params.yaml').read_text())['tracking']['registered_model']}/1"
    one_label.run("labelstack", "predict", *map(str, new), "--model", model, "--all-probabilities", "--out", str(out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == len(new)
    assert {len(row["labels"]) for row in rows} == {1}
    for row in rows:
        all_of_them = row["probabilities"].values()
        assert sum(all_of_them) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == [max(all_of_them)]
    assert np.mean([row["labels"][0] == file.parent.name for row, file in zip(rows, new, strict=True)]) > 0.5
    with contextlib.closing(sqlite3.connect(one_label.root / "mlflow.db")) as database:
        tags = dict(database.execute("SELECT key, value FROM model_version_tags"))
    assert tags["labelstack.task"] == "single_label"
    (described,) = (one_label.root / "mlartifacts").rglob("ensemble.json")
    assert json.loads(described.read_text())["settings"]["task"] == "single_label"
    again = tmp_path / "again"
    said = one_label.run("labelstack", "rebuild", "1", "--verify", "--submit", "--to", str(again)).stdout
    assert "maximum absolute difference 0" in said
    assert "SHA-256 as recorded" in said
    (submission,) = (again / "submission").glob("*.csv")
    assert submission.read_bytes() == one_label.submission()
