"""Second-round models, through the real pipeline: crops after one of two base models, with a network a fold."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from labelstack.images.view_table import read_view
from labelstack.predictions import read_predictions
from labelstack.support.box import Box
from shared import made_once, run_folder
from tiny import TINY, Workspace

K = 3
ROOT = "data/own"
SPLITS = ("train", "validation", "test")
CHANGE: dict[str, Any] = {
    "dataset": {"root": ROOT, "answers": f"{ROOT}/test_answers.json"},
    "sample": {"n_train": 90, "n_validation": 20, "n_test": 30},
    "base_models": list(range(K)),
    "models": {
        "wide": TINY["models"]["wide"] | {"epochs": 2},
        "plain": TINY["models"]["wide"] | {"epochs": 1, "seed": 1},
    },
    "second_round": {
        "closer": {
            "kind": "crop",
            "after": ["wide"],
            "boxes": "boxes.csv",
            "margin": 0.1,
            "epochs": 2,
            "augment": False,
        }
    },
    "stackers": {"mean": {"kind": "mean"}, "logistic": {"kind": "logistic"}},
}
FOLLOWS = {"second_score@closer", "members@second_round", "stack@mean", "stack@logistic", "members@stackers", "blend"}


def write_boxes(workspace: Workspace) -> None:
    """A box in the middle of every image but each tenth."""
    rows = [["id", "split", "left", "top", "right", "bottom"]]
    for split in SPLITS:
        content = json.loads((workspace.root / ROOT / f"{split}.json").read_text())
        ids = [image["image_id"] for image in content["images"]]
        rows += [[str(i), split, "0.2", "0.1", "0.8", "0.9"] for place, i in enumerate(ids) if place % 10]
    with (workspace.root / ROOT / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def new(folder: Path) -> Workspace:
    """A workspace with a data set of its own, since the drawn one is an output that DVC would restore."""
    made = Workspace(folder, CHANGE)
    whole = made.params()
    made.params(dataset={"root": "data/sample", "answers": "data/sample/test_answers.json"})
    made.run("dvc", "repro", "sample")
    shutil.copytree(made.root / "data/sample", made.root / ROOT)
    made.params(whole)
    write_boxes(made)
    return made


@pytest.fixture(scope="module")
def seconded(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose `dvc repro` was killed in the second fold of the second round, and run again to the end."""

    def make(folder: Path) -> None:
        made = new(folder)
        made.run("dvc", "repro", "needs")
        work = made.root / "data/work/second/closer"
        made.kill_when(lambda: any(work.glob("*/1/epoch-*.npz")), "dvc", "repro", "second@closer")
        (finished,) = work.glob("*/0/finished/history.csv")
        shutil.copy(finished, made.root / "history-before-the-kill.csv")
        made.run("dvc", "repro")

    return Workspace.existing(made_once(run_folder(tmp_path_factory) / "seconded", make))


@pytest.mark.long
def test_a_killed_second_round_keeps_finished_folds_and_gives_the_same_bytes(
    seconded: Workspace, tmp_path: Path
) -> None:
    history = (seconded.root / "models/second/closer/networks/0/history.csv").read_bytes()
    assert history == (seconded.root / "history-before-the-kill.csv").read_bytes()  # with the seconds it took
    whole = seconded.copy(tmp_path / "whole")
    made = [*whole.root.glob("models/second/closer/networks/*/model.keras")]
    made += whole.root.glob("data/second_networks/closer/*/*.npy")
    assert len(made) == K + 3 * K
    before = {file: file.read_bytes() for file in made}
    for file in made:
        file.unlink()
    whole.run("labelstack", "stage", "second", "closer")
    assert [file for file in made if file.read_bytes() != before[file]] == []
    assert not list((whole.root / "data/work/second/closer").glob("*/*"))


@pytest.mark.long
def test_rows_are_predicted_by_who_did_not_learn_from_them_and_begins_there(seconded: Workspace) -> None:
    stacking = pd.read_parquet(seconded.root / "data/folds/stacking.parquet").set_index("row_id")["fold"]
    whole = read_predictions(seconded.root / "data/second/closer/oof.npy")
    assert sorted(whole.image_id) == sorted(stacking.index)
    for fold in range(K):
        part = read_predictions(seconded.root / f"data/second_networks/closer/{fold}/oof.npy")
        assert sorted(part.image_id) == sorted(stacking.index[stacking == fold])
        np.testing.assert_array_equal(whole.rows_of(part.image_id), part.probability)
    first = read_predictions(seconded.root / "data/predictions/wide/oof.npy").rows_of(whole.image_id)
    other = read_predictions(seconded.root / "data/predictions/plain/oof.npy").rows_of(whole.image_id)

    def alike(P: Any) -> float:
        return float(np.corrcoef(P.ravel(), whole.probability.ravel())[0, 1])

    assert alike(first) > alike(other)


@pytest.mark.long
def test_images_without_a_box_are_counted_and_the_view_has_the_margin(seconded: Workspace) -> None:
    counts = json.loads((seconded.root / "metrics/views/closer.json").read_text())
    assert counts["train"] == {"images": 90, "with_box": 81, "whole": 9}
    assert counts["test"] == {"images": 30, "with_box": 27, "whole": 3}
    boxes = read_view(seconded.root / "data/views/closer.parquet", "test")
    assert len(boxes) == 27
    assert {tuple(np.round(box, 6)) for box in boxes.values()} == {Box(0.14, 0.02, 0.86, 0.98)}


@pytest.mark.long
def test_it_is_a_member_after_base_models_and_before_stackers(seconded: Workspace) -> None:
    evaluation = json.loads((seconded.root / "metrics/evaluation.json").read_text())
    kinds = {name: row["kind"] for name, row in evaluation["scores"].items()}
    assert list(kinds) == ["wide", "plain", "closer", "mean", "logistic", "blend"]
    assert kinds["closer"] == "second round"
    assert evaluation["scores"]["closer"]["audit_samples_f1"] > 0
    columns = json.loads((seconded.root / "models/stackers/mean/folds/config.json").read_text())["columns"]
    assert columns == ["wide", "plain", "closer"]
    assert set(json.loads((seconded.root / "models/ensemble/blend.json").read_text())["weights"]) == {
        "mean", "logistic", "wide", "plain", "closer",
    }  # fmt: skip
    said = seconded.run("labelstack", "leaderboard").stdout
    assert "closer" in said
    assert "second round" in said
    page = (seconded.root / "report/index.html").read_text()
    assert "closer-2" in page


@pytest.mark.long
def test_a_model_is_a_run_and_its_networks_are_runs_below_it(seconded: Workspace) -> None:
    with contextlib.closing(sqlite3.connect(seconded.root / "mlflow.db")) as database:
        runs = dict(database.execute("SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active'"))
        parents = dict(database.execute("SELECT run_uuid, value FROM tags WHERE key = 'mlflow.parentRunId'"))
        stages = dict(database.execute("SELECT run_uuid, value FROM tags WHERE key = 'labelstack.stage'"))
        kinds = dict(database.execute("SELECT name, model_type FROM logged_models"))
    below = {runs[child]: runs[parent] for child, parent in parents.items() if runs[child].startswith("second/")}
    assert below == {f"second/closer-{fold}": "second/closer" for fold in range(K)}
    names = Counter(name for name in runs.values() if name.startswith("second/"))
    assert set(names.values()) == {1}  # what was killed went on with its run
    assert {stages[run] for run, name in runs.items() if name.startswith("second/")} == {"second"}
    assert {kinds[f"closer-{fold}"] for fold in range(K)} == {"second round"}


@pytest.mark.long
def test_the_version_predicts_its_test_rows_to_the_bit_and_new_images(seconded: Workspace, tmp_path: Path) -> None:
    again = tmp_path / "again"
    images = str(seconded.root / "data/images/test")
    said = seconded.run(
        "labelstack", "rebuild", "1", "--verify", "--submit", "--images", images, "--to", str(again)
    ).stdout
    assert "maximum absolute difference 0" in said
    assert "second round" in said
    (submission,) = (again / "submission").glob("*.csv")
    assert submission.read_bytes() == seconded.submission()
    assert (again / "models/second/closer/networks/2/model.keras").exists()
    photo = next((seconded.root / ROOT).rglob("*.jpg"))
    assert "1 of 1 images labelled" in seconded.run("labelstack", "predict", str(photo)).stdout


def changed(workspace: Workspace) -> set[str]:
    """What is stale, params.yaml having changed."""
    workspace.run("labelstack", "stage", "settings")
    return workspace.changed()


@pytest.mark.long
def test_a_change_names_what_it_touches(seconded: Workspace, tmp_path: Path) -> None:
    copied = seconded.copy(tmp_path / "copied")
    content = yaml.safe_load((copied.root / "params.yaml").read_text())
    assert changed(copied) == set()

    def with_(section: str, name: str, **keys: Any) -> set[str]:
        copied.params({**content, section: {**content[section], name: {**content[section][name], **keys}}})
        return changed(copied)

    assert with_("second_round", "closer", epochs=3) == {"second@closer"}
    assert with_("second_round", "closer", margin=0.2) == {"views@closer", "second@closer"}
    assert with_("second_round", "closer", resize="stretch") == set()  # as the first network has it
    assert with_("models", "plain", epochs=2) == {f"train@plain-{fold}" for fold in range(K)}
    assert with_("models", "wide", batch_size=16) == {"second@closer", *(f"train@wide-{fold}" for fold in range(K))}
    copied.params(content)

    networks = copied.root / "models/networks"
    for name, expected in (("plain", set()), ("wide", {"second@closer"})):
        file = networks / name / "1/model.keras"
        before = file.read_bytes()
        file.unlink()
        file.write_bytes(before + b" ")
        copied.run("labelstack", "stage", "needs")
        touched = {"needs", "members@base_models", f"train@{name}-1", f"predict@{name}-1", f"score@{name}"}
        assert changed(copied) - touched == (expected | ({"members@second_round"} if expected else set()))
        file.write_bytes(before)
    copied.run("labelstack", "stage", "needs")

    boxes = copied.root / ROOT / "boxes.csv"
    lines = boxes.read_text().splitlines()
    boxes.write_text("\n".join([lines[0] + ",seen by", *(f"{line},ann" for line in reversed(lines[1:]))]) + "\n")
    assert changed(copied) == {"ingest", "views@closer"}
    assert copied.repro("second_score@closer") == {"ingest", "views@closer"}


@pytest.mark.long
def test_wrong_boxes_are_told_at_once_and_before_any_training(seconded: Workspace, tmp_path: Path) -> None:
    copied = seconded.copy(tmp_path / "copied")
    boxes = copied.root / ROOT / "boxes.csv"
    boxes.write_text(boxes.read_text() + "9999,test,0,0,1,1\n")
    last = len(boxes.read_text().splitlines())
    said = copied.run("labelstack", "stage", "views", "closer", ok=False).stderr
    assert f"boxes.csv: line {last}: id: expected an image of the data set, found '9999' in test" in said
    copied.params(models={**CHANGE["models"], "wide": CHANGE["models"]["wide"] | {"seed": 7}})
    result = copied.run("dvc", "repro", ok=False)
    assert "Running stage 'views@closer'" in result.stdout
    assert "Running stage 'train@" not in result.stdout
