"""Garments with masks to the masks that are handed in: the real `dvc repro`, whole, and killed on its way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from labelstack.formats.manifest import read_manifest
from labelstack.images.shards.shard_files import status_frame
from labelstack.masks.instance_table import masks_of
from labelstack.masks.region_table import read_regions
from labelstack.masks.run_text import write_runs
from labelstack.predictions import read_predictions
from labelstack.stages.work.rows_of_regions import PREDICTED, region_id
from tiny import TINY, Workspace

pytestmark = [pytest.mark.long, pytest.mark.slow]
CHANGE: dict[str, Any] = {
    "dataset": {
        "format": "imaterialist2019",
        "into": "data/photos",
        "answers": "data/sample/test_answers.csv",
        "label_ids": None,
        "instances": {"labels": "attributes"},
    },
    "sample": {"n_train": 120, "n_test": 30, "image_size": 64},
    "images": {"store_size": 64, "shard_rows": 40},
    "folds": {"k": 2},
    "base_models": [0, 1],
    "segmenters": {
        "plain": {
            "backbone": "small_resnet",
            "options": {"filters": [8, 16, 32], "blocks": 1},
            "decoder": {"filters": [24], "middle": False},
            "phases": [{"epochs": 12, "image_size": 64, "learning_rate": 0.005, "group_rates": [1, 1, 1]}],
        }
    },
    "regions": {"garments": {"size": 64, "smallest": 0.002}},
    "region_rows": {"garments": {"size": 128}},
    "models": {"wide": TINY["models"]["wide"]},
    "stackers": {"mean": {"kind": "mean"}},
    "submission": {"filename": "attributes.csv"},
}


def finished(root: Path, pattern: str) -> bool:
    return any(root.glob(pattern))


def test_a_run_that_is_killed_on_its_way_hands_in_the_same(tmp_path: Path) -> None:
    whole = Workspace(tmp_path / "whole", CHANGE)
    assert {"segment@plain-0", "regions@garments", "region_rows@garments", "submit_masks@garments", "register"} <= (
        whole.repro()
    )
    assert json.loads(whole.run("dvc", "status", "--json").stdout) == {}
    killed = Workspace(tmp_path / "killed", CHANGE)
    root = killed.root
    moments = [
        lambda: finished(root, "models/segmenters/plain/0/model.keras"),  # while the other fold learns, or soon after
        lambda: finished(root, "data/work/regions/*/*/*"),
        lambda: finished(root, "data/images/train/shard-*.parquet"),
        lambda: finished(root, "data/network_predictions/wide/0/*.npy"),
    ]
    for moment in moments:
        killed.kill_when(moment, "dvc", "repro")
    killed.run("dvc", "repro")
    for file in ("masks.csv", "attributes.csv"):
        assert (root / "submission" / file).read_bytes() == (whole.root / "submission" / file).read_bytes()
    told = json.loads((root / "metrics/masks.json").read_text())
    assert told == json.loads((whole.root / "metrics/masks.json").read_text())
    assert told["test_segmentation"]["photos"] == 30
    assert 0 < told["test_segmentation"]["mean_iou"] < 1
    scores = told["out_of_fold"]
    assert scores["categories_alone"]["score"] >= scores["with_attributes"]["score"] > 0
    photos = read_manifest(root / "data/photos/manifest/test.parquet")["name"].tolist()
    rows = (root / "submission/masks.csv").read_text().splitlines()[1:]
    assert list(dict.fromkeys(row.partition(",")[0] for row in rows)) == photos
    the_version_finds_and_draws_what_the_stages_found(whole)
    page = (whole.root / "report/index.html").read_text()
    assert "IoU of each class" in page
    assert page.count("test, withheld answers") > 3
    assert page.count('alt="Predicted regions of') > 12


def the_version_finds_and_draws_what_the_stages_found(workspace: Workspace) -> None:
    """Rebuilt, served on photos that the pipeline knows, and drawn."""
    root = workspace.root
    told = workspace.run("labelstack", "rebuild", "1", "--to", "rebuilt", "--verify", "--submit").stdout
    assert "DIFFERS" not in told
    assert "SHA-256 as recorded" in told
    assert "segmenters" in told
    for file in ("masks.csv", "attributes.csv"):
        assert (root / "rebuilt/submission" / file).read_bytes() == (root / "submission" / file).read_bytes()
    manifest = read_manifest(root / "data/photos/manifest/test.parquet")
    names = manifest["name"].tolist()[:3]
    files = [str(next((root / "data/sample").rglob(name))) for name in names]
    done = workspace.run(
        "labelstack", "predict", *files, "--model", "1", "--json", "--all-probabilities", "--draw", "drawn"
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    table = read_regions(root / "data/regions/test.parquet", manifest["image_id"].to_numpy()[:3])
    blended = read_predictions(root / "data/ensemble/test.npy")
    rows = dict(zip(blended.image_id.tolist(), blended.probability, strict=True))
    seen = 0
    for photo, answer in zip(manifest["image_id"].tolist()[:3], answers, strict=True):
        own = table.filter(pa.array(table["image_id"].to_numpy() == photo))
        assert [one["category_id"] for one in answer["regions"]] == own["category"].to_pylist()
        assert [one["runs"] for one in answer["regions"]] == write_runs(masks_of(own))
        np.testing.assert_allclose([one["score"] for one in answer["regions"]], own["score"].to_numpy(), atol=1e-5)
        for number, one in zip(own["region"].to_pylist(), answer["regions"], strict=True):
            if one["probabilities"]:
                given = list(one["probabilities"].values())
                np.testing.assert_allclose(given, rows[region_id(photo, PREDICTED, number)], atol=1e-4)
                seen += 1
    assert seen
    assert len(list((root / "drawn").glob("*.jpg"))) == 3


def test_networks_with_masks_and_what_lies_around_join_in_a_version(tmp_path: Path) -> None:
    """One sees the region and its mask, one the whole photo with the mask, one the photo with all else grey."""
    wide = TINY["models"]["wide"]
    models = {
        "close": {**wide, "sees": "region", "mask": "channel"},
        "around": {**wide, "mask": "channel", "resize": "letterbox"},
        "greyed": {**wide, "mask": "grey"},
    }
    change = {**CHANGE, "models": models, "sample": {"n_train": 60, "n_test": 16, "image_size": 64}}
    change["region_rows"] = {"garments": {"size": 128, "mask": "stored", "context": "photo"}}
    workspace = Workspace(tmp_path / "work", change)
    assert "register" in workspace.repro("register")
    sides = status_frame(workspace.root / "data/images/train")[["width", "height"]]
    photos = status_frame(workspace.root / "data/photos/images/train")[["width", "height"]]
    assert set(sides.itertuples(index=False)) <= set(photos.itertuples(index=False))
    the_version_finds_and_draws_what_the_stages_found(workspace)


def test_photos_alone_have_masks_to_hand_in(tmp_path: Path) -> None:
    """Without region_rows photos are the rows; what segmenters find is handed in without attributes."""
    change = {**CHANGE, "region_rows": {}, "dataset": {**CHANGE["dataset"], "into": "data"}}
    workspace = Workspace(tmp_path / "work", change)
    assert yaml.safe_load((workspace.root / "params.yaml").read_text())["region_rows"] == {}
    ran = workspace.repro("submit_masks@garments")
    assert "submit_masks@garments" in ran
    assert not any(stage.startswith("region_rows") for stage in ran)
    told = json.loads((workspace.root / "metrics/masks.json").read_text())
    assert told["with_attributes"] == 0
    assert told["test"]["categories_alone"]["score"] >= told["test"]["with_attributes"]["score"]
