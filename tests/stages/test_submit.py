"""From the competition's files to its submission: the sample decides header and order, and is not read again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from formats.published import N_LABELS, label_map, sample_submission, write_published
from labelstack.predictions import write_predictions
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stages import ingest, paths, submit
from labelstack.stages.label_sets import save_decision
from labelstack.stages.members import THE_BLEND
from labelstack.stages.rows import label_table
from labelstack.support import storage
from tiny import REPOSITORY, merged

SIZES = {"train": 300, "validation": 20, "test": 30}
NAME = "iMaterialist_Challenge_(Fashion)_at_FGVC5_submission.csv"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the published files, small, and params.yaml of the recipe."""
    recipe = yaml.safe_load((REPOSITORY / "recipes/imaterialist2018.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(merged(recipe, {"submission": {"missing": "blank"}})))
    write_published(tmp_path / "data/imaterialist2018", SIZES)
    (tmp_path / "data/imaterialist2018/labels.csv").write_bytes(label_map(bom=True))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def submitted(here: Path) -> list[str]:
    """Ingest, decide for every second test image, and submit without the data set."""
    ingest.run()
    shutil.rmtree(here / "data/imaterialist2018")
    ids = np.arange(1, SIZES["test"] + 1, 2)
    probability = np.zeros((len(ids), N_LABELS), np.float32)
    probability[:, [65, 94]] = 0.9
    THE_BLEND.predictions.mkdir(parents=True)
    write_predictions(THE_BLEND.test, ids, probability)
    limits = Decision("global", thresholds=np.full(N_LABELS, 0.5, np.float32))
    save_decision(paths.ENSEMBLE / "thresholds.json", label_table()["label_id"].to_numpy(), limits)
    submit.run()
    written = json.loads((here / "metrics/submission.json").read_text())
    assert (written["rows"], written["not_downloaded"]) == (30, 15)
    assert written["sha256"] == storage.sha256(here / "submission" / NAME)
    return (here / "submission" / NAME).read_text().splitlines()


def test_header_and_order_are_those_of_the_sample(here: Path) -> None:
    order = np.random.default_rng(0).permutation(np.arange(1, 31)).tolist()
    (here / "data/imaterialist2018/sample_submission.csv").write_text(sample_submission(order))
    header, *rows = submitted(here)
    assert header == "image_id,label_id"
    assert rows == [f"{i},{'66 95' if i % 2 else ''}" for i in order]


def test_without_a_sample_the_order_is_that_of_the_test_file(here: Path) -> None:
    header, *rows = submitted(here)
    assert header == "id,predicted"
    assert rows == [f"{i},{'66 95' if i % 2 else ''}" for i in range(1, 31)]


def test_metrics_say_that_the_first_test_images_are_the_validation_images(here: Path) -> None:
    ingest.run()
    counts = json.loads((here / "metrics/ingest.json").read_text())
    assert counts["images"] == SIZES
    shared = {"train_validation": 0, "train_test": 0, "validation_test": 20}
    assert counts["shared"] == {"urls": shared, "images": shared}
