"""Garments with masks in the form of iMaterialist 2019: the image-level reading, from the generator to a submission."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from labelstack.formats.manifest import read_manifest
from labelstack.masks.instance_table import read_instances
from tiny import TINY, Workspace

pytestmark = [pytest.mark.long, pytest.mark.slow]
CHANGE: dict[str, Any] = {
    "dataset": {
        "format": "imaterialist2019",
        "answers": "data/sample/test_answers.csv",
        "label_ids": None,
        "validation": 0.25,
    },
    "sample": {"n_train": 160, "n_test": 30, "image_size": 40},
    "folds": {"k": 2},
    "models": {"wide": TINY["models"]["wide"]},
    "stackers": {"mean": {"kind": "mean"}},
}


def test_instances_run_to_the_end(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work", CHANGE)
    root = workspace.root
    assert {"sample", "ingest", "train@wide-all", "submit", "register"} <= workspace.repro()
    assert json.loads(workspace.run("dvc", "status", "--json").stdout) == {}
    given = [read_manifest(root / f"data/manifest/{split}.parquet") for split in ("train", "validation")]
    table = read_instances(root / "data/manifest/instances.parquet")
    assert set(table["image_id"].to_pylist()) == {one for split in given for one in split["image_id"].tolist()}
    assert json.loads((root / "metrics/ingest.json").read_text())["instances"]["train"] == len(table)
    scores = json.loads((root / "metrics/evaluation.json").read_text())["scores"]["blend"]
    assert any(key.startswith("test_") for key in scores)  # of the answers that are masks too
    (submission,) = (root / "submission").glob("*.csv")
    rows = list(csv.reader(submission.read_text().splitlines()))
    asked = list(csv.reader((root / "data/sample/sample_submission.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == [row[0] for row in asked]
    assert all("::" in name for row in rows[1:] if row[1] for name in row[1].split("|"))
    workspace.run("labelstack", "rebuild", "1", "--to", "rebuilt", "--verify")
