"""The whole pipeline through the real `dvc repro`: outputs, repeatability, kills, and what a change reruns."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from labelstack.formats.manifest import label_matrix
from labelstack.params import load_params
from labelstack.predictions import read_predictions
from labelstack.scoring.metrics import f_beta
from tiny import Workspace


def test_every_stage_leaves_its_outputs(finished: Workspace) -> None:
    stages = yaml.safe_load((finished.root / "dvc.lock").read_text())["stages"]
    assert set(stages) == {
        "settings", "sample", "ingest", "download@train", "download@validation", "download@test",
        "split", "train@wide-all", "train@deep-all", "predict@wide-all", "predict@deep-all",
        "score@wide", "score@deep", "needs", "members@base_models", "members@second_round",
        "stack@cnn", "stack@xgboost", "members@stackers", "blend", "evaluate", "register", "submit", "report",
    }  # fmt: skip
    for name in ("wide", "deep"):
        folder = finished.root / "models/base" / name
        assert {file.name for file in folder.iterdir()} == {"run.json", "thresholds.json"}
        network = finished.root / "models/networks" / name / "all"
        assert {file.name for file in network.iterdir()} == {"model.keras", "history.csv", "run.json"}
    predictions = np.load(finished.root / "data/predictions/wide/oof.npy", allow_pickle=False)
    assert predictions["image_id"].dtype == np.int64
    assert predictions["probability"].dtype == np.float32
    assert len(predictions["probability"]) == 60


def test_the_submission_answers_every_test_image_in_order(finished: Workspace) -> None:
    frame = pd.read_csv(finished.root / "submission/iMaterialist_Challenge_(Fashion)_at_FGVC5_submission.csv")
    images = json.loads((finished.root / "data/sample/test.json").read_text())["images"]
    assert list(frame.columns) == ["id", "predicted"]
    assert frame["id"].tolist() == [image["image_id"] for image in images]


def test_the_evaluation_scores_everything_on_the_same_rows(finished: Workspace) -> None:
    evaluation = json.loads((finished.root / "metrics/evaluation.json").read_text())
    assert list(evaluation["scores"]) == ["wide", "deep", "cnn", "xgboost", "blend"]
    assert evaluation["n_validation"] == 60
    assert evaluation["n_test"] == 40
    metrics = finished.root / "metrics"
    stages = {"wide": "score", "deep": "score", "cnn": "stack", "xgboost": "stack", "blend": ""}
    for name, folder in stages.items():
        measured = json.loads((metrics / folder / f"{name}.json").read_text())
        row = evaluation["scores"][name]
        assert {"samples_f1_at_fixed", "micro_f1_in_sample", "macro_f1_cross_fitted"} <= set(measured)
        assert {key: row[key] for key in measured} == measured


@pytest.mark.parametrize(("name", "folder"), [("wide", "predictions"), ("deep", "predictions"), ("cnn", "stacked")])
def test_scores_on_the_withheld_answers_are_those_of_the_predictions(
    finished: Workspace, name: str, folder: str
) -> None:
    data, params = finished.root / "data", load_params(finished.root / "params.yaml")
    assert params.dataset.answers
    answers = json.loads((finished.root / params.dataset.answers).read_text())["annotations"]
    labels = pd.read_parquet(data / "manifest/labels.parquet")["label_id"].to_numpy()
    Y = label_matrix([each["label_id"] for each in answers], labels)
    found = read_predictions(data / folder / name / "test.npy")
    chosen = found.rows_of(np.array([each["image_id"] for each in answers])) >= np.float32(params.thresholds.fixed)
    row = json.loads((finished.root / "metrics/evaluation.json").read_text())["scores"][name]
    for average in ("samples", "micro", "macro"):
        assert row[f"test_{average}_f1_at_fixed"] == pytest.approx(f_beta(Y, chosen, average=average), abs=1e-6)


def test_a_second_repro_changes_nothing(finished: Workspace) -> None:
    before = (finished.root / "dvc.lock").read_bytes()
    output = finished.run("dvc", "repro").stdout
    assert "Running stage" not in output
    assert (finished.root / "dvc.lock").read_bytes() == before


def test_a_run_killed_in_download_train_and_stack_gives_the_same_submission(
    finished: Workspace, workspace: Workspace
) -> None:
    """Every stage is a new process here, as it is for a user, and those of the finished workspace were forked."""
    shard = workspace.root / "data/images/train/shard-00001.parquet"
    workspace.kill_when(shard.exists, "dvc", "repro", "download@train")
    assert not (workspace.root / "metrics/download/train.json").exists()  # which ends the stage
    work = workspace.root / "data/work"
    workspace.kill_when(lambda: any(work.glob("train/wide-all/*/epoch-*.npz")), "dvc", "repro", "train@wide-all")
    assert not (workspace.root / "models/networks/wide/all/model.keras").exists()
    workspace.kill_when(lambda: any(work.glob("stack/xgboost/*/fold-0*")), "dvc", "repro", "stack@xgboost")
    assert not (workspace.root / "models/stackers/xgboost/run.json").exists()
    workspace.run("dvc", "repro", quick=False)
    assert workspace.submission() == finished.submission()
    history = "models/networks/wide/all/history.csv"
    killed, whole = (pd.read_csv(w.root / history).drop(columns="seconds") for w in (workspace, finished))
    pd.testing.assert_frame_equal(killed, whole)


def rerun_by(workspace: Workspace, **change: object) -> set[str]:
    """Stages that a real `dvc repro` runs after a change to params.yaml."""
    workspace.params(**change)
    return workspace.repro()


def test_a_change_reruns_what_it_touches_and_nothing_else(copied: Workspace) -> None:
    assert "labelstack v1 (registered before)" in copied.run("labelstack", "stage", "register").stdout
    content = yaml.safe_load((copied.root / "params.yaml").read_text())
    content["stackers"]["xgboost"]["max_depth"] = 3
    after = {"settings", "members@stackers", "blend", "evaluate", "register", "submit", "report"}
    assert rerun_by(copied, stackers=content["stackers"]) == {"stack@xgboost", *after}
    registered = json.loads((copied.root / "models/ensemble/registration.json").read_text())
    assert registered["version"] == 2

    content["models"]["third"] = content["models"]["wide"] | {"seed": 1}
    added = {"train@third-all", "predict@third-all", "score@third", "members@base_models", "stack@cnn", "stack@xgboost"}
    added.add("needs")  # looks at all networks, and finds that nobody needs one
    assert rerun_by(copied, models=content["models"]) == {*added, *after}


def test_a_threshold_strategy_trains_no_base_model(copied: Workspace) -> None:
    copied.params(thresholds={"strategy": "global", "fixed": 0.3})
    copied.run("labelstack", "stage", "settings")
    changed = set(json.loads(copied.run("dvc", "status", "--json").stdout))
    assert {"score@wide", "stack@cnn", "blend"} <= changed
    assert not {stage for stage in changed if stage.startswith(("train", "predict"))}


def test_dvc_shows_metrics_and_plots(finished: Workspace, copied: Workspace) -> None:
    metrics = json.loads(finished.run("dvc", "metrics", "show", "--json").stdout)
    files = metrics[""]["data"]
    assert "samples_f1_cross_fitted" in files["metrics/evaluation.json"]["data"]["scores"]["blend"]
    page = copied.run("dvc", "plots", "show", "--out", "plots_page").stdout
    assert "index.html" in page
    html = (copied.root / "plots_page/index.html").read_text()
    assert "Threshold curve of the blend" in html


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("train", "wid"), "no such base model"),
        (("stack", "wide"), "no such stacker"),
        (("download", "dev"), "no such split"),
        (("members", "models"), "no such kind of members (there are: base_models, second_round, stackers)"),
        (("views", "closer"), "closer: no such second-round model in params.yaml (there are: none)"),
    ],
)
def test_unknown_names_are_told_without_a_traceback(finished: Workspace, command: tuple[str, ...], said: str) -> None:
    result = finished.run("labelstack", "stage", *command, ok=False)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_predicting_before_anything_is_there_names_what_lacks(copied: Workspace) -> None:
    shutil.rmtree(copied.root / "data/images/validation")
    (copied.root / "models/networks/wide/all/model.keras").unlink()
    result = copied.run("labelstack", "stage", "predict", "wide", ok=False)
    assert result.returncode == 2
    assert (
        "data/images/validation: no shards. Run `dvc repro` (or `labelstack stage download validation`) first"
        in result.stderr
    )
    assert "models/networks/wide/all/model.keras: not found" in result.stderr
    assert "Traceback" not in result.stderr


def test_nested_predictions_of_other_folds_are_not_blended(copied: Workspace) -> None:
    copied.params(folds={"k": 3, "nested": False})
    result = copied.run("labelstack", "stage", "blend", ok=False)
    assert result.returncode == 2
    assert "xgboost: params.yaml asks for nested predictions of none, and data/stacked/xgboost/nested.npy has 3" in (
        result.stderr
    )
    copied.run("labelstack", "stage", "stack", "xgboost")
    assert not (copied.root / "data/stacked/xgboost/nested.npy").exists()
    assert (copied.root / "data/stacked/cnn/nested.npy").exists()


def test_members_that_are_not_there_are_named(copied: Workspace) -> None:
    (copied.root / "data/stacked/cnn/oof.npy").unlink()
    (copied.root / "models/stackers/cnn/run.json").unlink()
    (copied.root / "data/stacked/xgboost/nested.npy").unlink()  # with two folds there is none
    before = (copied.root / "data/members/stackers.json").read_bytes()
    result = copied.run("labelstack", "stage", "members", "stackers", ok=False)
    assert result.returncode == 2
    assert "data/stacked/cnn/oof.npy: not found" in result.stderr
    assert "xgboost" not in result.stderr
    assert (copied.root / "data/members/stackers.json").read_bytes() == before
