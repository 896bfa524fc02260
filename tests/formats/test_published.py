"""The published files, small: the same generator writes them at full size for benchmarks/ingest.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from formats.published import N_LABELS, NOT_IN_VALIDATION, label_map, sample_submission, write_published
from labelstack.formats import imaterialist2018
from labelstack.formats.format import CompetitionData
from labelstack.formats.manifest import write_manifest
from labelstack.support.errors import InputProblems

SIZES = {"train": 3000, "validation": 200, "test": 500}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_published(folder, SIZES)
    (folder / "labels.csv").write_bytes(label_map())
    (folder / "sample_submission.csv").write_text(sample_submission(list(range(500, 0, -1))))
    return folder


@pytest.fixture(scope="module")
def dataset(root: Path) -> CompetitionData:
    return imaterialist2018.read(root, (1, N_LABELS), 5)


def test_the_generator_keeps_to_the_published_form(root: Path) -> None:
    content: dict[str, Any] = {split: json.loads((root / f"{split}.json").read_text()) for split in SIZES}
    assert list(content["train"]) == ["info", "license", "images", "annotations"]
    assert list(content["test"]) == ["images"]
    assert (root / "train.json").read_text() == json.dumps(content["train"], indent=2) + "\n"
    for split in ("train", "validation"):
        images, annotations = content[split]["images"], content[split]["annotations"]
        assert len(images) == len(annotations) == SIZES[split]
        assert all(list(record) == ["url", "imageId"] and type(record["imageId"]) is str for record in images)
        assert all(list(record) == ["labelId", "imageId"] for record in annotations)
        lengths = [len(record["labelId"]) for record in annotations]
        assert min(lengths) >= 1
        assert max(lengths) <= 19
    labels = [record["labelId"] for record in content["train"]["annotations"]]
    assert any(len(set(row)) < len(row) for row in labels)
    assert any(row != sorted(row, key=int) for row in labels)
    assert all(type(label) is str for row in labels for label in row)
    test = content["test"]["images"]
    assert all(type(record["imageId"]) is int for record in test)
    shared = [{**record, "imageId": str(record["imageId"])} for record in test[: SIZES["validation"]]]
    assert shared == content["validation"]["images"]
    assert all("." not in record["url"].rsplit("/", 1)[1] for record in test)


def test_published_files_are_read(dataset: CompetitionData) -> None:
    assert {split: len(frame) for split, frame in dataset.manifests.items()} == SIZES
    assert len(dataset.labels) == N_LABELS
    never = dataset.labels["n_validation"] == 0
    assert set(NOT_IN_VALIDATION) <= set(dataset.labels["label_id"][never])
    assert dataset.labels["group"].nunique() == 8
    assert dataset.counts["repeated_labels_dropped"] > 0
    assert dataset.counts["labels_without_validation_image"] == int(never.sum())
    assert dataset.submission.header == ("image_id", "label_id")
    assert dataset.submission.image_id.tolist() == list(range(500, 0, -1))


def test_what_splits_share_is_counted(dataset: CompetitionData) -> None:
    """By hand: the first test images are the validation images."""
    none = {"train_validation": 0, "train_test": 0, "validation_test": 200}
    assert dataset.counts["shared"] == {"urls": none, "images": none}


def test_urls_are_shared_without_the_id_too(tmp_path: Path) -> None:
    content = {
        "train": {
            "images": [{"image_id": 1, "url": ["a", "b"]}, {"image_id": 2, "url": ["b", "c"]}],
            "annotations": [{"image_id": 1, "label_id": [1]}, {"image_id": 2, "label_id": [1]}],
        },
        "validation": {
            "images": [{"image_id": 1, "url": ["b", "x"]}, {"image_id": 3, "url": "a"}, {"image_id": 2, "url": "y"}],
            "annotations": [{"image_id": i, "label_id": [1]} for i in (1, 2, 3)],
        },
        "test": {"images": [{"image_id": 2, "url": "y"}, {"image_id": 3, "url": ["z", "z"]}]},
    }
    for split, value in content.items():
        (tmp_path / f"{split}.json").write_text(json.dumps(value))
    assert imaterialist2018.read(tmp_path).counts["shared"] == {
        "urls": {"train_validation": 2, "train_test": 0, "validation_test": 1},
        "images": {"train_validation": 1, "train_test": 0, "validation_test": 1},
    }


def test_both_spellings_give_the_same_manifests(tmp_path: Path, dataset: CompetitionData) -> None:
    write_published(tmp_path, SIZES, spelling="snake")
    assert '"image_id"' in (tmp_path / "test.json").read_text()
    other = imaterialist2018.read(tmp_path, (1, N_LABELS), 5)
    for split, manifest in dataset.manifests.items():
        digests = []
        for frame in (manifest, other.manifests[split]):
            write_manifest(tmp_path / "m.parquet", frame)
            digests.append(hashlib.sha256((tmp_path / "m.parquet").read_bytes()).hexdigest())
        assert digests[0] == digests[1]
    columns = ["label_id", "n_train", "n_validation"]
    pd.testing.assert_frame_equal(dataset.labels[columns], other.labels[columns])


def test_one_wrong_key_in_the_published_files_is_one_problem(tmp_path: Path) -> None:
    write_published(tmp_path, SIZES)
    text = (tmp_path / "validation.json").read_text()
    (tmp_path / "validation.json").write_text(text.replace('"imageId"', '"image_ID"'))
    with pytest.raises(InputProblems) as caught:
        imaterialist2018.read(tmp_path, (1, N_LABELS), 5)
    (problem,) = caught.value.problems
    assert 'the nearest is "image_ID"' in problem
    assert "400 times" in problem
