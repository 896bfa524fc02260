"""Garments in the form of FashionAI 2018: from the generator to a zipped submission and the competition's scores."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import signal
import subprocess
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from labelstack.formats.manifest import read_manifest
from labelstack.networks.inference import load_model
from labelstack.predictions import read_predictions
from labelstack.support.fashionai_values import FIRST, NAMES, VALUES
from stores import answers, free_port, wait_for
from tiny import TINY, Workspace, environment

pytestmark = [pytest.mark.long, pytest.mark.slow]
SOFT = {"collar_design_labels": "published", "skirt_length_labels": "sum_to_one"}
CHANGE: dict[str, Any] = {
    "dataset": {
        "format": "fashionai2018",
        "task": "single_label",
        "answers": "data/sample/test_answers.csv",
        "label_ids": None,
        "validation": 0.25,
    },
    "sample": {"n_train": 240, "n_test": 40, "image_size": 40},
    "folds": {"k": 2},
    "models": {"wide": TINY["models"]["wide"] | {"soft_labels": SOFT}},
    "stackers": {"mean": {"kind": "mean"}, "weighted": {"kind": "weighted_mean"}},
    "metric": {"primary": "attribute_map"},
    "thresholds": {"strategy": "argmax", "calibration": "temperature"},
    "training": {"holdout": 0.2},
    "submission": {"filename": "mine.zip"},
}


def test_attributes_run_to_the_end(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work", CHANGE)
    root = workspace.root
    assert {"sample", "train@wide-all", "submit", "register"} <= workspace.repro()
    assert json.loads(workspace.run("dvc", "status", "--json").stdout) == {}
    has_what_it_should(root)
    workspace.run("labelstack", "rebuild", "1", "--to", "rebuilt", "--verify")
    tells_values_of_a_photo(workspace)


def has_what_it_should(root: Path) -> None:
    """Rows, answers, submission and scores of a workspace in which everything has run."""
    manifest = read_manifest(root / "data/manifest/validation.parquet")
    assert set(manifest["known"]) <= set(VALUES)
    assert manifest["maybe"].map(len).max() == 1
    network = load_model(root / "models/networks/wide/all/model.keras")
    logits = keras.Model(network.inputs, network.get_layer("logits").output)
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8)
    raw = logits(images).numpy()
    whole = read_predictions(root / "data/network_predictions/wide/all/oof.npy").probability
    for key, values in VALUES.items():
        mine = slice(FIRST[key], FIRST[key] + len(values))
        np.testing.assert_allclose(whole[:, mine].sum(axis=1), 1 / 8, rtol=1e-4)
        shares = np.exp(raw[:, mine]) / np.exp(raw[:, mine]).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(network(images).numpy()[:, mine] * 8, shares, rtol=1e-4)

    with zipfile.ZipFile(root / "submission/mine.zip") as archive:
        rows = list(csv.reader(io.StringIO(archive.read("mine.csv").decode())))
    asked = list(csv.reader((root / "data/sample/test/Tests/question.csv").read_text().splitlines()))
    assert [row[:2] for row in rows] == [row[:2] for row in asked]
    blended = read_predictions(root / "data/ensemble/test.npy")
    test = read_manifest(root / "data/manifest/test.parquet").set_index("name")
    P = blended.rows_of(test.loc[[row[0] for row in rows], "image_id"].to_numpy())
    for (_, key, told), line in zip(rows, P, strict=True):
        own = line[FIRST[key] : FIRST[key] + len(VALUES[key])]
        assert list(map(float, told.split(";"))) == pytest.approx(own / own.sum(), abs=1e-6)

    scores = json.loads((root / "metrics/evaluation.json").read_text())["scores"]
    for name in ("wide", "mean", "weighted", "blend"):
        found = scores[name]
        assert found["attribute_map_cross_fitted_low"] <= found["attribute_map_cross_fitted"]
        assert "test_basic_precision" in found
        for score in ("attribute_map", "attribute_map_official", "basic_precision"):
            for prefix in ("", "test_"):
                key = f"{prefix}{score}"
                assert 0 <= found[f"{key}_low"] <= found[key] <= found[f"{key}_high"] <= 1
    second_level_by_group(root)
    labels = pd.read_parquet(root / "data/manifest/labels.parquet")
    assert labels["name"].tolist() == list(NAMES)


def tells_values_of_a_photo(workspace: Workspace) -> None:
    """In the terminal and over HTTP one value of each attribute, all eight or those asked for."""
    photo = sorted((workspace.root / "data/sample/test").rglob("*.jpg"))[0]
    typed = workspace.run("labelstack", "predict", str(photo), "--model", "1", "--json")
    everything = json.loads(typed.stdout)["labels"]
    assert [name.split("::")[0] for name in everything] == list(VALUES)
    some = ["neck_design_labels", "sleeve_length_labels"]
    own = [name for name in everything if name.split("::")[0] in some]
    asked = ["--model", "1", "--json", "--attributes", "sleeve_length,neck_design_labels"]
    typed = workspace.run("labelstack", "predict", str(photo), *asked)
    assert json.loads(typed.stdout)["labels"] == own
    refused = workspace.run("labelstack", "predict", str(photo), "--attributes", "hem", "--model", "1", ok=False)
    assert refused.returncode
    assert "this version has no hem (there are: coat_length_labels" in refused.stderr

    port, log = free_port(), workspace.root / "served.log"
    command = ["mlflow", "models", "serve", "-m", "models:/labelstack/1", "--env-manager", "local", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=workspace.root, stdout=output, stderr=output, start_new_session=True,
            env=environment() | {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"},
        )  # fmt: skip
    try:
        wait_for(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/ping"), 120)
        assert process.poll() is None, log.read_text()
        image = {"image": base64.b64encode(photo.read_bytes()).decode()}
        for given, expected in (({}, everything), ({"attributes": "sleeve_length, neck_design"}, own)):
            body = {"dataframe_records": [image]} | ({"params": given} if given else {})
            address, head = f"http://127.0.0.1:{port}/invocations", {"Content-Type": "application/json"}
            request = urllib.request.Request(address, json.dumps(body).encode(), head)
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert json.loads(answer.read())["predictions"][0]["labels"] == expected
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def second_level_by_group(root: Path) -> None:
    """Stackers, the blend and its rule work within attributes, and what that is worth is told."""
    evaluation = json.loads((root / "metrics/evaluation.json").read_text())
    assert evaluation["primary"] == "attribute_map_cross_fitted"
    blended = json.loads((root / "metrics/blend.json").read_text())
    for name in ("plain_mean", "uncalibrated"):
        assert blended[f"{name}_gain_low"] <= blended[f"{name}_gain"] <= blended[f"{name}_gain_high"]
    learnt = json.loads((root / "models/ensemble/blend.json").read_text())
    assert set(learnt["groups"]["temperature"]) == set(learnt["weights"])
    assert all(len(own) == len(VALUES) for own in learnt["groups"]["of_group"].values())
    assert json.loads((root / "models/ensemble/thresholds.json").read_text())["decision"]["group"] == [
        key for key, values in VALUES.items() for _ in values
    ]
    stacked = read_predictions(root / "data/stacked/weighted/oof.npy").probability
    for key, values in VALUES.items():
        mine = slice(FIRST[key], FIRST[key] + len(values))
        np.testing.assert_allclose(stacked[:, mine].sum(axis=1), 1 / 8, rtol=1e-4)
    known = read_manifest(root / "data/manifest/validation.parquet").set_index("image_id")["known"]
    oof = read_predictions(root / "data/ensemble/oof.npy")
    for key, row in zip(known.loc[oof.image_id], oof.probability, strict=True):
        mine = slice(FIRST[key], FIRST[key] + len(VALUES[key]))
        assert row[mine].sum() == pytest.approx(1, abs=1e-5) == row.sum()
