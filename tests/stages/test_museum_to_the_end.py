"""Museum objects in the form of iMet 2019: from the generator to a submission, with its folds, rules and blend file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from labelstack.formats.manifest import read_manifest
from labelstack.stacking.rarest_first import rarest_first_folds
from tiny import TINY, Workspace

pytestmark = [pytest.mark.long, pytest.mark.slow]
NEW_RULES = ["per_fold", "top_share", "group_limits", "mean_count"]
CHANGE: dict[str, Any] = {
    "dataset": {"format": "imet2019", "answers": "data/sample/test_answers.csv", "label_ids": None},
    "sample": {"n_train": 150, "n_test": 40, "image_size": 40, "missing_labels": 0.15},
    "base_models": [0, 1, 2],
    "folds": {"k": 3, "method": "rarest_first", "seed": 42},
    "models": {
        "wide": TINY["models"]["wide"] | {"epochs": 3},
        "deep": TINY["models"]["deep"],
    },
    "stackers": {"mean": {"kind": "mean"}, "logistic": {"kind": "logistic"}},
    "metric": {"beta": 2},
    "thresholds": {"candidates": NEW_RULES, "limits": {"culture": [0, 1]}},
    "blend": {"method": "nelder_mead"},
    "submission": {"filename": "submission.csv"},
}


def test_museum_objects_run_to_the_end(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work", CHANGE)
    root = workspace.root
    assert {"sample", "download@validation", "report"} <= workspace.repro()
    assert json.loads(workspace.run("dvc", "status", "--json").stdout) == {}
    train = read_manifest(root / "data/manifest/train.parquet")
    assert len(read_manifest(root / "data/manifest/validation.parquet")) == 0
    noted = pd.read_csv(root / "data/sample/train.csv", dtype=str)
    given = noted["attribute_ids"].str.split().map(lambda row: [int(label) for label in row]).tolist()
    assert train["label_id"].tolist() == given
    folds = pd.read_parquet(root / "data/folds/stacking.parquet").set_index("row_id")["fold"]
    assert folds[train["image_id"]].tolist() == rarest_first_folds(given, 3, 42).tolist()

    sample = pd.read_csv(root / "data/sample/sample_submission.csv", dtype=str)
    submitted = pd.read_csv(root / "submission/submission.csv", dtype=str, keep_default_na=False)
    assert list(submitted.columns) == ["id", "attribute_ids"]
    assert submitted["id"].tolist() == sample["id"].tolist()
    decisions = json.loads((root / "metrics/decisions.json").read_text())
    assert set(NEW_RULES) <= set(decisions)
    evaluation = json.loads((root / "metrics/evaluation.json").read_text())
    assert evaluation["n_test"] == 40
    assert evaluation["scores"]["blend"]["test_samples_f2"] > 0

    written = root / "models/ensemble/blend.yml"
    content = yaml.safe_load(written.read_text())
    weights = json.loads((root / "models/ensemble/blend.json").read_text())["weights"]
    assert [item["weight"] for item in content] == list(weights.values())
    assert all((root / file).is_file() for item in content for file in item["predicts"])
    by_name = dict(zip(weights, content, strict=True))
    assert by_name["wide"]["predicts"] == [f"data/network_predictions/wide/{fold}/oof.npy" for fold in range(3)]
    for item in content:
        item["weight"] *= 7
    (root / "seven.yml").write_text(yaml.safe_dump(content))
    (root / "published.yml").write_text(
        "".join(
            f"- predicts: [{', '.join(f'level1_train_{name}_f{fold}_e04_0.5{fold}.npy' for fold in range(3))}]\n"
            f"  weight: {weight}\n"
            for name, weight in (("wide", 0.6), ("deep", 0.5))
        )
    )
    rows = {}
    for file in ("models/ensemble/blend.yml", "seven.yml", "published.yml"):
        printed = workspace.run("labelstack", "blend", "--from", file).stdout.splitlines()
        rows[file] = printed[-1].split()
        methods = [line.split()[0] for line in printed[-5:-1]]
        assert methods == ["log_loss", "greedy", "equal", "nelder_mead"]
    scored = {file: [cell for cell in row if cell.startswith("0.")] for file, row in rows.items()}
    assert scored["seven.yml"][0] == scored["models/ensemble/blend.yml"][0]
    assert "7.00000)" in rows["seven.yml"]
    assert "1.10000)" in rows["published.yml"]
    assert rows["published.yml"][-4:] == ["wide", "0.545,", "deep", "0.455"]
    assert np.isfinite(float(scored["published.yml"][0]))
