"""Made-up data in a recipe's own form."""

from __future__ import annotations

import csv
import json
import urllib.request
from pathlib import Path

import pytest
from PIL import Image as Picture

from labelstack.formats import imaterialist2018, imaterialist2019, imet2019
from labelstack.params.dataset import InstancesSection
from labelstack.rehearsal.data import (
    DrawnData,
    draw,
    published_test,
    write,
    write_described,
    write_instances,
    write_museum,
    write_published,
)
from labelstack.rehearsal.pictures import served
from labelstack.rehearsal.shrink import N_IMAGES, N_MASKED, PICTURE


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn") / "pictures"


@pytest.fixture(scope="module")
def drawn(pictures: Path) -> DrawnData:
    return draw(pictures, (1, 228))


def url(place: str) -> str:
    return f"http://127.0.0.1:8000/{place}"


def test_pictures_lie_where_the_rows_say(pictures, drawn):
    for split, rows in drawn.rows.items():
        assert len(rows) == N_IMAGES[split]
        for row in rows:
            with Picture.open(pictures / row.place) as picture:
                assert picture.size == (PICTURE, PICTURE)
    assert [path.name for path in pictures.parent.iterdir()] == ["pictures"]


def test_labels_are_spread_over_the_declared_range(drawn):
    labels = {label for rows in drawn.rows.values() for row in rows for label in row.labels}
    assert set(drawn.names) == set(range(1, 229))
    assert labels <= set(drawn.names)
    assert max(labels) > 200
    assert all(row.labels for rows in drawn.rows.values() for row in rows)


def test_the_described_form_is_read_as_it_was_written(drawn, tmp_path):
    write_described(tmp_path, drawn, url)
    dataset = imaterialist2018.read(tmp_path, (1, 228))
    assert dataset.counts["images"] == N_IMAGES
    assert dataset.counts["labels"] == 228
    manifest = dataset.manifests["train"]
    assert manifest["label_id"].tolist() == [row.labels for row in drawn.rows["train"]]
    assert manifest["url"].tolist() == [[url(row.place)] for row in drawn.rows["train"]]


@pytest.mark.parametrize("recipe", ["photos", "imaterialist2018"])
def test_both_forms_are_read_with_answers_beside_the_files(recipe, drawn, tmp_path):
    write(recipe, tmp_path, drawn, url)
    dataset = imaterialist2018.read(tmp_path, (1, 228))
    assert dataset.manifests["train"]["label_id"].tolist() == [row.labels for row in drawn.rows["train"]]
    answers = imaterialist2018.answers(tmp_path / "test_answers.json", dataset.labels)
    test = published_test(drawn.rows) if recipe == "imaterialist2018" else drawn.rows["test"]
    assert answers["label_id"].tolist() == [row.labels for row in test]
    named = dataset.labels.set_index("label_id")
    assert set(named.loc[[label for row in test for label in row.labels], "group"]) > {"garment", "colour"}


def test_the_published_form(drawn, tmp_path):
    write_published(tmp_path, drawn, url)
    train, validation, test = (
        json.loads((tmp_path / f"{split}.json").read_text()) for split in ("train", "validation", "test")
    )
    assert list(train["images"][0]) == ["url", "imageId"]
    assert train["images"][0] == {"url": url("train/1"), "imageId": "1"}
    assert list(train["annotations"][0]) == ["labelId", "imageId"]
    by_id = {row["imageId"]: row["labelId"] for row in train["annotations"]}
    for row in drawn.rows["train"]:
        assert set(by_id[str(row.image_id)]) == {str(label) for label in row.labels}
    assert any(len(set(labels)) < len(labels) for labels in by_id.values())
    assert any(labels != sorted(labels, key=int) for labels in by_id.values())

    assert [row["imageId"] for row in test["images"]] == list(range(1, N_IMAGES["test"] + 1))
    shared = N_IMAGES["validation"]
    assert [row["url"] for row in test["images"][:shared]] == [row["url"] for row in validation["images"]]
    assert not {row["url"] for row in test["images"][shared:]} & {row["url"] for row in validation["images"]}

    text = (tmp_path / "labels.csv").read_bytes().decode()
    assert not text.endswith("\n")
    rows = list(csv.DictReader(text.split("\r\n")))
    assert list(rows[0]) == ["labelId", "taskId", "labelName", "taskName"]
    assert [row["labelId"] for row in rows] == [str(label) for label in range(1, 229)]
    assert len({row["labelName"] for row in rows}) == 228
    submission = list(csv.reader((tmp_path / "sample_submission.csv").read_text().splitlines()))
    assert submission[0] == ["image_id", "label_id"]
    assert [int(row[0]) for row in submission[1:]] == list(range(1, N_IMAGES["test"] + 1))


def test_pictures_are_served_on_loopback(pictures, drawn):
    row = drawn.rows["test"][0]
    with served(pictures) as host:
        assert host.startswith("127.0.0.1:")
        with urllib.request.urlopen(f"http://{host}/{row.place}") as answer:
            assert answer.read() == (pictures / row.place).read_bytes()


def test_museum_objects_are_read_as_they_were_written(tmp_path):
    write_museum(tmp_path / "data" / "imet")
    counts = imet2019.FORMAT.read(tmp_path / "data" / "imet").counts["images"]
    assert counts == N_IMAGES | {"validation": 0}


def test_garments_with_masks_are_read_as_they_were_written(tmp_path):
    write_instances(tmp_path)
    form = imaterialist2019.Imaterialist2019Format(InstancesSection(labels="attributes"), tmp_path)
    dataset = form.read(tmp_path, folds=0)
    assert {split: len(manifest) for split, manifest in dataset.manifests.items()} == N_MASKED | {"validation": 0}
    assert dataset.instances is not None
    assert len(dataset.instances) > N_MASKED["train"]
    assert len(form.test_instances(tmp_path / "test_answers.csv")) > N_MASKED["test"]
