from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from labelstack.params.sample import SampleSection
from labelstack.sample import draw_dataset
from labelstack.sample.labels import NAMES
from labelstack.support.errors import UserError

SMALL = SampleSection(n_train=150, n_validation=30, n_test=20, image_size=32, label_noise=0.2)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def read(root: Path, name: str) -> Any:
    return json.loads((root / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "data"
    draw_dataset(root, SMALL, 7, workers=0)
    return root


def test_files_are_the_flagship_form(drawn: Path) -> None:
    assert sorted(path.name for path in drawn.iterdir()) == [
        "images",
        "labels.csv",
        "test.json",
        "test_answers.json",
        "train.json",
        "validation.json",
    ]
    for split, number in (("train", 150), ("validation", 30), ("test", 20)):
        content = read(drawn, f"{split}.json")
        assert set(content) == ({"images"} if split == "test" else {"images", "annotations"})
        assert [record["image_id"] for record in content["images"]] == list(range(1, number + 1))
        for record in content["images"]:
            (url,) = record["url"]
            assert url == f"file:images/{split}/{record['image_id']}.jpg"
            image = cv2.imread(str(drawn / url.removeprefix("file:")))
            assert image.shape == (32, 32, 3)
    answers = read(drawn, "test_answers.json")["annotations"]
    assert [record["image_id"] for record in answers] == list(range(1, 21))
    for record in [*answers, *read(drawn, "train.json")["annotations"]]:
        assert 3 <= len(record["label_id"]) <= 8
        assert record["label_id"] == sorted(set(record["label_id"]))
        assert set(record["label_id"]) <= set(range(1, len(NAMES) + 1))


def test_labels_are_named_by_group(drawn: Path) -> None:
    with (drawn / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(NAMES)
    assert [int(row["label_id"]) for row in rows] == list(range(1, len(NAMES) + 1))


def test_files_do_not_depend_on_the_number_of_workers(drawn: Path, tmp_path: Path) -> None:
    draw_dataset(tmp_path / "again", SMALL, 7, workers=2)
    assert files_of(tmp_path / "again") == files_of(drawn)


def test_another_seed_draws_other_images(drawn: Path, tmp_path: Path) -> None:
    draw_dataset(tmp_path / "other", SMALL, 8, workers=0)
    mine, other = files_of(drawn), files_of(tmp_path / "other")
    assert mine.keys() == other.keys()
    assert sum(mine[name] == other[name] for name in mine if name.endswith(".jpg")) == 0


def test_sizes_and_noise_leave_the_other_images_alone(drawn: Path, tmp_path: Path) -> None:
    params = SampleSection(n_train=40, n_validation=35, n_test=20, image_size=32, label_noise=0)
    draw_dataset(tmp_path / "fewer", params, 7, workers=0)
    mine, other = files_of(drawn), files_of(tmp_path / "fewer")
    for name in mine.keys() & other.keys():
        if name.endswith(".jpg"):
            assert mine[name] == other[name]
    assert mine["test_answers.json"] == other["test_answers.json"]
    assert mine["test.json"] == other["test.json"]
    noisy = read(drawn, "train.json")["annotations"][:40]
    clean = read(tmp_path / "fewer", "train.json")["annotations"]
    assert 10 < sum(a != b for a, b in zip(noisy, clean, strict=True)) <= 40


def test_the_summary_counts_what_was_written(tmp_path: Path) -> None:
    params = SampleSection(n_train=20, n_validation=20, n_test=10, image_size=32)
    summary = draw_dataset(tmp_path / "data", params, 0, workers=0)
    assert [summary[f"n_{split}"] for split in ("train", "validation", "test")] == [20, 20, 10]
    assert summary["n_labels"] == len(NAMES)
    train = read(tmp_path / "data", "train.json")["annotations"]
    assert summary["labels_per_image"]["train"] == pytest.approx(sum(len(r["label_id"]) for r in train) / 20)
    assert summary["rarest_label"] in NAMES
    assert summary["label_noise"] == 0.03


def test_an_older_sample_is_replaced_but_other_files_are_not(tmp_path: Path) -> None:
    params = SampleSection(n_train=20, n_validation=20, n_test=10, image_size=32)
    root = tmp_path / "data"
    (root / "images" / "train").mkdir(parents=True)
    (root / "images" / "train" / "999.jpg").write_bytes(b"old")
    draw_dataset(root, params, 0, workers=0)
    assert not (root / "images" / "train" / "999.jpg").exists()
    (root / "README").write_text("a note of the sample stage")
    draw_dataset(root, params, 0, workers=0)
    (root / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        draw_dataset(root, params, 0, workers=0)
    assert (root / "thesis.tex").read_text() == "precious"
    with pytest.raises(UserError, match="it is a file"):
        draw_dataset(root / "thesis.tex", params, 0, workers=0)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr("labelstack.sample.dataset.encode_jpeg", fail)
    with pytest.raises(OSError, match="disk full"):
        draw_dataset(
            tmp_path / "data", SampleSection(n_train=20, n_validation=20, n_test=10, image_size=32), 0, workers=0
        )
    assert list(tmp_path.iterdir()) == []
