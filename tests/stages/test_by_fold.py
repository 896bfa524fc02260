"""Base models with a network for each fold, through the real pipeline."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray

from labelstack.predictions import read_predictions
from labelstack.stacking.stackers.averaging import mean_of
from shared import made_once, run_folder
from tiny import TINY, Workspace, typed

K = 3
FOLDS = [str(fold) for fold in range(K)]
CHANGE: dict[str, Any] = {
    "base_models": list(range(K)),
    "models": {"wide": TINY["models"]["wide"] | {"epochs": 3, "by_fold": {"2": {"image_size": 32}}}},
    "stackers": {"mean": {"kind": "mean"}, "logistic": {"kind": "logistic"}},
}


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose `dvc repro` was killed in the second network, and run again to the end."""

    def make(folder: Path) -> None:
        made = Workspace(folder, CHANGE)
        made.run("dvc", "repro", "train@wide-0")
        work = folder / "data/work/train"
        made.kill_when(lambda: any(work.glob("wide-1/*/epoch-*.npz")), "dvc", "repro", "train@wide-1")
        made.run("dvc", "repro")

    return Workspace.existing(made_once(run_folder(tmp_path_factory) / "folded", make))


def rows(folded: Workspace, name: str) -> pd.DataFrame:
    return pd.read_parquet(folded.root / f"data/folds/{name}.parquet")


@pytest.mark.long
def test_a_run_killed_in_a_fold_gives_the_submission_of_an_undisturbed_one(folded: Workspace, tmp_path: Path) -> None:
    whole = Workspace(tmp_path / "whole", CHANGE)
    downloads = [f"stage download {split}" for split in ("train", "validation", "test")]
    lines = ["stage settings", "stage sample", "stage ingest", *downloads, "stage split", "stage train wide"]
    lines += ["stage predict wide", "stage score wide", "stage members base_models"]
    lines += ["stage stack mean", "stage stack logistic", "stage members stackers", "stage blend", "stage submit"]
    whole.run(*typed(*lines))
    assert whole.submission() == folded.submission()
    for fold in FOLDS:
        history = f"models/networks/wide/{fold}/history.csv"
        killed, once = (pd.read_csv(w.root / history).drop(columns="seconds") for w in (folded, whole))
        pd.testing.assert_frame_equal(killed, once)


@pytest.mark.long
def test_every_row_is_predicted_by_the_network_that_did_not_learn_from_it(folded: Workspace) -> None:
    stacking = rows(folded, "stacking").set_index("row_id")["fold"]
    train = pd.read_parquet(folded.root / "data/manifest/train.parquet")["image_id"]
    assert sorted(stacking.index) == sorted(train)
    whole = read_predictions(folded.root / "data/predictions/wide/oof.npy")
    for fold in FOLDS:
        learnt, asked = rows(folded, f"fit/{fold}"), rows(folded, f"predict/{fold}")
        own = stacking.index[stacking == int(fold)]
        assert set(learnt["row_id"]) == set(stacking.index) - set(own)
        assert set(learnt["part"]) == {"fit", "holdout"}
        assert sorted(asked.loc[asked["part"] == "oof", "row_id"]) == sorted(own)
        network = read_predictions(folded.root / f"data/network_predictions/wide/{fold}/oof.npy")
        assert sorted(network.image_id) == sorted(own)
        np.testing.assert_array_equal(whole.rows_of(network.image_id), network.probability)


@pytest.mark.long
@pytest.mark.parametrize("part", ["test", "audit"])
def test_new_images_get_the_mean_of_the_networks(folded: Workspace, part: str) -> None:
    mean = read_predictions(folded.root / f"data/predictions/wide/{part}.npy")
    parts = [read_predictions(folded.root / f"data/network_predictions/wide/{fold}/{part}.npy") for fold in FOLDS]
    expected = mean_of([each.rows_of(mean.image_id) for each in parts])
    np.testing.assert_array_equal(mean.probability, expected)
    assert len({each.probability.tobytes() for each in parts}) == K


@pytest.mark.long
def test_a_validation_split_that_nobody_learns_from_is_the_audit(folded: Workspace) -> None:
    validation = pd.read_parquet(folded.root / "data/manifest/validation.parquet")["image_id"]
    audit = rows(folded, "audit")
    assert set(audit["split"]) == {"validation"}
    assert sorted(audit["row_id"]) == sorted(validation)
    evaluation = json.loads((folded.root / "metrics/evaluation.json").read_text())
    assert evaluation["rows"] == "train images out of fold"
    assert evaluation["n_audit"] == len(audit)
    assert 0 < evaluation["scores"]["blend"]["audit_samples_f1"] < 1
    assert any("second-order" in sentence for sentence in evaluation["caveats"])


@pytest.mark.long
def test_a_model_is_a_run_and_its_networks_are_runs_below_it(folded: Workspace) -> None:
    with contextlib.closing(sqlite3.connect(folded.root / "mlflow.db")) as database:
        runs = dict(database.execute("SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active'"))
        parents = dict(database.execute("SELECT run_uuid, value FROM tags WHERE key = 'mlflow.parentRunId'"))
        files = [name for (name,) in database.execute("SELECT name FROM logged_models")]
    below = {runs[child]: runs[parent] for child, parent in parents.items()}
    assert below == {f"train/wide-{fold}": "train/wide" for fold in FOLDS}
    assert sorted(name for name in files if name.startswith("wide")) == [f"wide-{fold}" for fold in FOLDS]


@pytest.mark.long
def test_the_version_holds_every_network_and_predicts_as_on_that_day(folded: Workspace, tmp_path: Path) -> None:
    again = tmp_path / "again"
    said = folded.run("labelstack", "rebuild", "1", "--verify", "--submit", "--to", str(again)).stdout
    assert "maximum absolute difference 0" in said
    assert sorted(folder.name for folder in (again / "models/networks/wide").iterdir()) == FOLDS
    (submission,) = (again / "submission").glob("*.csv")
    assert submission.read_bytes() == folded.submission()


def changed(workspace: Workspace) -> set[str]:
    """What is stale, params.yaml having changed."""
    workspace.run("labelstack", "stage", "settings")
    return workspace.changed()


@pytest.mark.long
def test_a_change_names_the_networks_that_it_touches_and_what_follows(folded: Workspace, tmp_path: Path) -> None:
    copied = folded.copy(tmp_path / "copied")
    content = yaml.safe_load((copied.root / "params.yaml").read_text())
    assert changed(copied) == set()
    content["models"]["wide"]["by_fold"] = {"2": {"image_size": 32, "epochs": 2}}
    copied.params(content)
    assert changed(copied) == {"train@wide-2"}
    content["models"]["wide"]["learning_rate"] = 0.01
    copied.params(content)
    assert changed(copied) == {f"train@wide-{fold}" for fold in FOLDS}


@pytest.mark.long
def test_another_k_touches_no_download_and_no_network_on_all_of_train(finished: Workspace, tmp_path: Path) -> None:
    copied = finished.copy(tmp_path / "copied")
    copied.params(folds={"k": 4})
    ran = copied.repro("score@wide")
    assert "split" in ran
    assert "score@wide" in ran
    assert not {stage for stage in ran if stage.startswith(("download", "train", "predict"))}


def ids(folder: Path, split: str) -> NDArray[np.int64]:
    return pd.read_parquet(folder / f"data/manifest/{split}.parquet")["image_id"].to_numpy(np.int64)


@pytest.mark.long
def test_sources_stay_on_one_side_and_folds_may_be_given(finished: Workspace, tmp_path: Path) -> None:
    copied = finished.copy(tmp_path / "copied")
    copied.params(folds={"group_by": {"blocks": 6}})
    assert "6 sources kept together" in copied.run("labelstack", "stage", "split").stdout
    folds = rows(copied, "stacking")["fold"].to_numpy()
    assert all(len(set(run)) == 1 for run in np.array_split(folds, 6))
    held = rows(copied, "fit/all").set_index("row_id")["part"].loc[ids(copied.root, "train")] == "holdout"
    assert all(len(set(run)) == 1 for run in np.array_split(held.to_numpy(), 6))

    given = [f"{image},{place % K},validation" for place, image in enumerate(ids(copied.root, "validation"))]
    (copied.root / "data/sample/folds.csv").write_text("\n".join(["id,fold,split", *given]) + "\n")
    copied.params(folds={"group_by": None, "column": "folds.csv"})
    copied.run(*typed("stage ingest", "stage split"))
    assert rows(copied, "stacking")["fold"].tolist() == [place % K for place in range(60)]

    (copied.root / "data/sample/folds.csv").write_text("\n".join(["id,fold,split", *given[:-2], "x,0,"]) + "\n")
    said = copied.run("labelstack", "stage", "ingest", ok=False).stderr
    assert "folds.csv: line 60: id: expected an image of train or validation, found 'x'" in said
    (copied.root / "data/sample/folds.csv").write_text("\n".join(["id,fold,split", *given[:-2]]) + "\n")
    said = copied.run(*typed("stage ingest", "stage split"), ok=False).stderr
    assert "folds.column: folds.csv gives 2 of 60 validation images no fold from 0 to 2" in said
