"""A CSV and a folder of photos, as somebody has them: through every stage to a rebuilt submission."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from labelstack.formats.manifest import read_manifest
from labelstack.params.sample import SampleSection
from labelstack.sample import draw_dataset
from labelstack.stages.paths import SPLITS
from tiny import Workspace, typed

pytestmark = pytest.mark.long
TINY_MODELS = {
    "dataset": {"format": "table", "root": "data/mine", "answers": None, "table": {"images": "photos"}},
    "models": {
        "wide": {
            "backbone": "small_cnn", "image_size": 24, "options": {"filters": [8, 16]}, "head": {"units": [16]},
            "epochs": 1,
        }
    },
    "stackers": {"mean": {"kind": "mean"}, "logistic": {"kind": "logistic"}},
    "submission": {"filename": "mine.csv"},
}  # fmt: skip


def garments(folder: Path, drawn: Path) -> Path:
    """130 drawn photos called by texts, and labels.csv with the names of their labels."""
    draw_dataset(drawn, SampleSection(n_train=100, n_validation=30, n_test=10, image_size=32), 1, workers=0)
    with (drawn / "labels.csv").open(encoding="utf-8", newline="") as file:
        names = {int(label): name for label, name in list(csv.reader(file))[1:]}
    (folder / "photos").mkdir(parents=True)
    rows = []
    for split in ("train", "validation"):
        for record in json.loads((drawn / f"{split}.json").read_text())["annotations"]:
            photo = f"photo {split}, {record['image_id']}.jpg"
            shutil.copy(drawn / f"images/{split}/{record['image_id']}.jpg", folder / "photos" / photo)
            rows.append([photo, ";".join(names[label] for label in record["label_id"])])
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["image", "labels"], *rows])
    return folder


def test_a_table_runs_to_the_end_and_is_called_by_its_texts(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work", TINY_MODELS)
    table = pd.read_csv(garments(workspace.root / "data/mine", tmp_path / "drawn") / "labels.csv")
    assert "report" in workspace.repro()
    submitted = pd.read_csv(workspace.root / "submission/mine.csv", dtype=str, keep_default_na=False)
    test = read_manifest(workspace.root / "data/manifest/test.parquet")
    assert list(submitted.columns) == ["image", "labels"]
    assert submitted["image"].tolist() == test["name"].tolist()
    order = table.index[table["image"].isin(submitted["image"])]
    assert submitted["image"].tolist() == table["image"][order].tolist()
    known = {label for row in table["labels"].dropna() for label in row.split(";")}
    assert {label for row in submitted["labels"] for label in row.split(";") if label} <= known
    evaluation = json.loads((workspace.root / "metrics/evaluation.json").read_text())
    assert evaluation["n_test"] == len(test)
    assert '<span class="id">photo ' in (workspace.root / "report/index.html").read_text()
    for called in (test["name"][0], str(test["image_id"][0])):
        shown = workspace.run("labelstack", "images", "show", called, "--to", "shown.jpg").stdout
        assert f"image: {test['name'][0]} (test)" in shown
    assert json.loads(workspace.run("dvc", "status", "--json").stdout) == {}
    rebuilt = workspace.run("labelstack", "rebuild", "1", "--to", "../rebuilt", "--submit").stdout
    assert "SHA-256 as recorded" in rebuilt

    photo = workspace.root / "data/mine/photos" / test["name"][0]
    photo.write_bytes((workspace.root / "data/mine/photos" / test["name"][1]).read_bytes())
    changed = set(json.loads(workspace.run("dvc", "status", "--json").stdout))
    assert changed == {"ingest"}  # which tells of the changed picture
    assert {"ingest", "download@test"} <= workspace.repro("download") <= {"ingest", "download@test", "settings"}


def test_what_a_column_says_belongs_together_stays_on_one_side_of_everything(tmp_path: Path) -> None:
    change = TINY_MODELS | {"folds": {"k": 3, "group_by": "sender"}, "training": {"holdout": 0.2}}
    workspace = Workspace(tmp_path / "work", change)
    file = garments(workspace.root / "data/mine", tmp_path / "drawn") / "labels.csv"
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    table["sender"] = [f"sender {row // 5}" for row in range(len(table))]
    table.to_csv(file, index=False)
    downloads = [f"stage download {split}" for split in ("train", "validation", "test")]
    said = workspace.run(*typed("stage ingest", *downloads, "stage split")).stdout
    assert "sources kept together" in said
    sender = table.set_index("image")["sender"]
    data = {split: read_manifest(workspace.root / f"data/manifest/{split}.parquet") for split in SPLITS}
    sides = {split: set(sender[manifest["name"]]) for split, manifest in data.items()}
    assert sum(map(len, sides.values())) == len(set.union(*sides.values())) == len(set(sender))
    of = {row: sender[name] for m in data.values() for row, name in zip(m["image_id"], m["name"], strict=True)}
    for name, column in (("stacking", "fold"), ("fit/all", "part")):
        dealt = pd.read_parquet(workspace.root / f"data/folds/{name}.parquet")
        pairs = set(zip(dealt["row_id"].map(of), dealt[column], strict=True))
        assert len({side for _, side in pairs}) > 1
        assert len(pairs) == len({each for each, _ in pairs})
