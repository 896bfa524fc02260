"""What a user sees when input is wrong: every problem, a non-zero exit code, and nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiny import Workspace


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("bare") / "work", {"dataset": {"root": "data/mine", "answers": None}})


def dataset(root: Path, **files: Any) -> None:
    """A tiny valid data set, with some files replaced: an object, raw text, or None for no file at all."""
    folder = root / "data/mine"
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"image_id": i, "url": [f"file:{i}.jpg"]} for i in (1, 2, 3)]
    labelled = {"images": images, "annotations": [{"image_id": i, "label_id": [1, i]} for i in (1, 2, 3)]}
    content: dict[str, Any] = {"train": labelled, "validation": labelled, "test": {"images": images}, **files}
    for name, value in content.items():
        file = folder / f"{name}.json"
        file.unlink(missing_ok=True)
        if value is not None:
            file.write_text(value if isinstance(value, str) else json.dumps(value))


def refused(workspace: Workspace, *said: str) -> None:
    result = workspace.run("labelstack", "stage", "ingest", ok=False)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for part in said:
        assert part in result.stderr
    manifest = workspace.root / "data/manifest"
    assert not manifest.exists() or not list(manifest.iterdir())
    assert not (workspace.root / "metrics/ingest.json").exists()


def test_problems_of_all_files_are_told_at_once(bare: Workspace) -> None:
    dataset(
        bare.root,
        train={
            "images": [{"image_id": 1, "url": []}, {"image_id": "x", "url": "file:2.jpg"}],
            "annotations": [{"image_id": 1, "label_id": [-4]}, {"image_id": 9, "label_id": [1]}],
        },
        validation='{"images": [',
        test=None,
    )
    refused(bare, "train.json", "validation.json", "line 1", "test.json", "url", "-4", "9")


def test_a_validation_split_without_any_label_is_known_before_any_work(bare: Workspace) -> None:
    images = [{"image_id": i, "url": f"file:{i}.jpg"} for i in (1, 2, 3)]
    unlabelled = {"images": images, "annotations": [{"image_id": i, "label_id": []} for i in (1, 2, 3)]}
    dataset(bare.root, validation=unlabelled)
    refused(bare, "validation.json: annotations: expected at least one label", "none of the 3 images has one")


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_validation_images_than_folds_are_known_before_any_work(bare: Workspace, n: int) -> None:
    some = {
        "images": [{"image_id": i, "url": f"file:{i}.jpg"} for i in range(n)],
        "annotations": [{"image_id": i, "label_id": [1]} for i in range(n)],
    }
    dataset(bare.root, validation=some)
    content = bare.params()
    try:
        bare.params(folds={"k": 3})
        refused(bare, "validation.json: images: expected at least 3, one for each fold (folds.k in params.yaml)")
    finally:
        bare.params(content)


def test_a_wrong_key_in_every_record_is_one_problem(bare: Workspace) -> None:
    images = [{"url": f"file:{i}.jpg", "image_ID": i} for i in range(2000)]
    dataset(bare.root, test={"images": images})
    refused(bare, "1 problem\n", "test.json: image_id: expected", 'the nearest is "image_ID" (2,000 times')


def test_no_image_at_all(bare: Workspace) -> None:
    dataset(bare.root, train={"images": [], "annotations": []})
    refused(bare, "train.json")


def test_images_that_cannot_be_had_stop_the_stage(bare: Workspace) -> None:
    dataset(bare.root)
    bare.run("labelstack", "stage", "ingest")
    result = bare.run("labelstack", "stage", "download", "train", ok=False)
    assert result.returncode == 2
    assert "none of 3 images" in result.stderr
    counts = json.loads((bare.root / "metrics/download/train.json").read_text())
    assert counts["images"] == 3
    assert sum(counts["status"].values()) == 3


def test_params_with_several_mistakes(bare: Workspace) -> None:
    content = bare.params()
    broken = json.loads(json.dumps(content))
    broken["models"]["wide"]["backbone"] = "small_cn"
    broken["models"]["deep"]["image_size"] = 17
    broken["models"]["deep"]["backbone"] = "xception"
    broken["seeed"] = 3
    broken["folds"]["k"] = 1
    try:
        bare.params(broken)
        result = bare.run("labelstack", "check", ok=False)
    finally:
        bare.params(content)
    assert result.returncode == 2
    for part in ("did you mean 'small_cnn'", "71 px", "did you mean 'seed'", "folds.k"):
        assert part in result.stderr


def test_a_tracking_server_that_is_not_there_is_known_before_any_training(bare: Workspace) -> None:
    dataset(bare.root)
    content = bare.params()
    try:
        bare.params(tracking={"uri": "http://127.0.0.1:9"})
        result = bare.run("labelstack", "stage", "train", "wide", ok=False)
    finally:
        bare.params(content)
    assert result.returncode == 2
    assert "127.0.0.1:9" in result.stderr
    assert "Traceback" not in result.stderr
