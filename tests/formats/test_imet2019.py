"""The format `imet2019`: ids that are texts, attributes in their order, and files that somebody spoiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from labelstack.formats.format import CompetitionData, format_for
from labelstack.formats.imet2019 import FORMAT
from labelstack.formats.manifest import read_manifest, write_manifest
from labelstack.formats.submission import read_form, write_form
from labelstack.formats.text_id import text_id
from labelstack.images.shards.fill import download_split
from labelstack.params.dataset import DatasetSection
from labelstack.params.images import ImagesSection
from labelstack.support.errors import InputProblems

TRAIN = ["4457884375734e12", "1000483014d91860", "1234567890123456", "fe2f0c1a8d33", "85a1b2c3d4e5f601"]
TEST = ["b1c2d3e4f5a60718", "9e9", "123456789012"]
ROWS = {
    "train.csv": [
        "id,attribute_ids",
        *(f"{name},{cell}" for name, cell in zip(TRAIN, ["3 0", "1", "2 1 3", "0", "3"], strict=True)),
    ],
    "labels.csv": ["attribute_id,attribute_name", "0,culture::greek", "1,culture::roman", "2,tag::cat", "3,tag::dog"],
    "sample_submission.csv": ["id,attribute_ids", *(f"{name},0 1 2" for name in TEST)],
}


def put(root: Path, **changed: list[str]) -> Path:
    """A small data set; ``train=…`` and so on: other lines of train.csv."""
    for file, lines in ROWS.items():
        given = changed.get(file.removesuffix(".csv"), lines)
        (root / file).write_text("".join(f"{line}\n" for line in given))
    for split, names in (("train", TRAIN), ("test", TEST)):
        (root / split).mkdir(exist_ok=True)
        for name in names:
            (root / split / f"{name}.png").touch()
    return root


def read(root: Path, folds: int = 0, **dataset: Any) -> CompetitionData:
    section = DatasetSection.model_validate({"format": "imet2019", "root": str(root), **dataset})
    return format_for(section).read(root, None, folds)


def problems_of(root: Path) -> list[str]:
    with pytest.raises(InputProblems) as caught:
        read(root)
    return caught.value.problems


def line(file: str, number: int, text: str) -> dict[str, list[str]]:
    """A file's lines, one of them another; 1 is the header."""
    lines = list(ROWS[f"{file}.csv"])
    lines[number - 1 : number] = [text]
    return {file: lines}


def test_ids_are_texts_and_attributes_keep_their_order(tmp_path: Path) -> None:
    data = read(put(tmp_path))
    train, test = data.manifests["train"], data.manifests["test"]
    assert train["name"].tolist() == TRAIN
    assert train["image_id"].tolist() == [text_id(name) for name in TRAIN]
    assert train["label_id"].tolist() == [[3, 0], [1], [2, 1, 3], [0], [3]]
    assert train["url"].tolist()[0] == ["file:train/4457884375734e12.png"]
    assert test["name"].tolist() == TEST
    assert test["label_id"].tolist() == [None] * 3
    assert data.labels.to_dict("list") == {
        "label_id": [0, 1, 2, 3],
        "name": ["culture::greek", "culture::roman", "tag::cat", "tag::dog"],
        "group": ["culture", "culture", "tag", "tag"],
        "n_train": [2, 2, 1, 3],
        "n_validation": [0, 0, 0, 0],
    }
    write_manifest(tmp_path / "manifest.parquet", train)
    assert read_manifest(tmp_path / "manifest.parquet")["label_id"].tolist() == [[3, 0], [1], [2, 1, 3], [0], [3]]


def test_there_is_an_empty_validation_split_where_base_models_have_folds_of_train(tmp_path: Path) -> None:
    put(tmp_path)
    assert len(read(tmp_path).manifests["validation"]) == 0
    assert set(read(tmp_path, folds=2).manifests) == {"train", "test"}  # `ingest` asks for dataset.validation then
    assert set(read(tmp_path, validation=0.2).manifests) == {"train", "test"}


def test_the_submission_has_texts_again(tmp_path: Path) -> None:
    data = read(put(tmp_path))
    write_form(tmp_path / "form.json", data.submission)
    FORMAT.write_submission(tmp_path / "out.csv", read_form(tmp_path / "form.json"), [[3, 0], [], [2]])
    text = (tmp_path / "out.csv").read_text()
    assert text == "id,attribute_ids\nb1c2d3e4f5a60718,0 3\n9e9,\n123456789012,2\n"


def test_answers_are_a_file_like_train(tmp_path: Path) -> None:
    labels = read(put(tmp_path)).labels
    (tmp_path / "answers.csv").write_text("id,attribute_ids\n9e9,3 1\nb1c2d3e4f5a60718,\n")
    found = FORMAT.answers(tmp_path / "answers.csv", labels)
    assert found["image_id"].tolist() == [text_id("9e9"), text_id("b1c2d3e4f5a60718")]
    assert found["label_id"].tolist() == [[3, 1], []]
    (tmp_path / "answers.csv").write_text("id,attribute_ids\n9e9,7\n9e9,1\n")
    with pytest.raises(InputProblems) as caught:
        FORMAT.answers(tmp_path / "answers.csv", labels)
    assert caught.value.problems == [
        'answers.csv: line 2: attribute_ids: expected ids that labels.csv has, found "7"',
        "answers.csv: line 3: id: expected each image once, found 9e9 on line 2 too",
    ]


WANTED = "line 2: id: expected an image's id, up to 16 hex digits in lower case and no leading zero, found"
AGAIN = "take the file as it was downloaded, or import the column as text"
ABSENT = "id: expected an image file, found none called"
UNKNOWN = "line 3: attribute_ids: expected ids that labels.csv has, found"
NAME = "line 3: attribute_name: expected"


@pytest.mark.parametrize(
    ("file", "number", "text", "told"),
    [
        ("train", 3, "abc,1", f"line 3: {ABSENT} train/abc.png"),
        ("train", 3, "1000483014d91860,4", f'{UNKNOWN} "4"'),
        ("train", 3, "1000483014d91860,1.0", f'{UNKNOWN} "1.0"'),
        ("train", 5, f"{TRAIN[1]},1", f"line 5: id: expected each image once, found {TRAIN[1]} on line 3 too"),
        ("train", 3, f"{TRAIN[1]}, ", "line 3: attribute_ids: expected at least one attribute, found an empty cell"),
        ("train", 3, TRAIN[1], "line 3: expected two fields, as the header has, found 1"),
        (
            "train",
            2,
            "4.45788E+24,1",
            f'{WANTED} "4.45788E+24", a number as spreadsheets write it (4457884375734e12 is there): {AGAIN}',
        ),
        ("train", 2, "4.45788E+27,1", f'{WANTED} "4.45788E+27", a number as spreadsheets write it: {AGAIN}'),
        (
            "train",
            4,
            "1234567890123450,1",
            f"line 4: {ABSENT} train/1234567890123450.png (1234567890123456 is there): spreadsheets lose digits after "
            f"the 15th, so {AGAIN}",
        ),
        ("train", 2, "FE2F,1", f'{WANTED} "FE2F"'),
        ("train", 2, "../x,1", f'{WANTED} "../x"'),
        ("train", 1, "id;ids", 'line 1: expected the header id,attribute_ids, found "id;ids"'),
        (
            "labels",
            3,
            "",
            "attribute_id: expected every number from 0 to 3, found none for 1: is the file whole?",
        ),
        ("labels", 3, "1,culture::greek", f'{NAME} each name once, found "culture::greek" on line 2 too'),
        ("labels", 3, "0,culture::roman", "line 3: attribute_id: expected each id once, found 0 on line 2 too"),
        ("labels", 3, "1,roman", f'{NAME} a group and a name such as tag::horse, found "roman"'),
        ("labels", 3, "one,tag::one", 'line 3: attribute_id: expected a whole number from 0, found "one"'),
        ("sample_submission", 2, "abc,0", f"line 2: {ABSENT} test/abc.png"),
        ("sample_submission", 2, "9e9,0", "line 3: id: expected each image once, found 9e9 on line 2 too"),
    ],
)
def test_bad_input_is_told_in_a_sentence(tmp_path: Path, file: str, number: int, text: str, told: str) -> None:
    assert problems_of(put(tmp_path, **line(file, number, text))) == [f"{file}.csv: {told}"]


def test_a_file_without_rows_and_images_without_a_row(tmp_path: Path) -> None:
    without = problems_of(put(tmp_path, train=["id,attribute_ids"]))
    assert without == ["train.csv: expected at least one row, found only the header"]
    assert problems_of(put(tmp_path, train=ROWS["train.csv"][:-1])) == [
        "train/: expected a row of train.csv for every image, found none for 1 (85a1b2c3d4e5f601.png): move them away, "
        "or add their rows"
    ]


def test_all_problems_of_all_files_at_once(tmp_path: Path) -> None:
    put(tmp_path, **line("train", 2, "4.45788E+24,1"), **line("labels", 5, "3,dog"))
    (tmp_path / "sample_submission.csv").unlink()
    files = [problem.partition(":")[0] for problem in problems_of(tmp_path)]
    assert files == ["labels.csv", "train.csv", "sample_submission.csv"]
    assert FORMAT.missing_files(tmp_path) == [f"{tmp_path}/sample_submission.csv: missing"]


def test_a_folder_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    put(tmp_path)
    for image in (tmp_path / "test").iterdir():
        image.unlink()
    (tmp_path / "test").rmdir()
    assert problems_of(tmp_path) == ["test/: expected a folder of images <id>.png, found none"]


def test_label_ids_are_those_of_labels_csv() -> None:
    with pytest.raises(ValidationError, match="the labels of the format imet2019 are those"):
        DatasetSection(format="imet2019", label_ids=(0, 3))


def test_a_truncated_image_is_damaged_and_the_others_are_stored(tmp_path: Path) -> None:
    put(tmp_path)
    for name in TRAIN:
        picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"train/{name}.png"), picture)
    whole = (tmp_path / f"train/{TRAIN[1]}.png").read_bytes()
    (tmp_path / f"train/{TRAIN[1]}.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / f"train/{TRAIN[2]}.png").write_bytes(b"")
    manifest = read(tmp_path).manifests["train"]
    counts = download_split(manifest, tmp_path / "shards", ImagesSection(store_size=32, max_failures=1), tmp_path)
    assert counts["status"] == {"ok": 3, "damaged": 1, "not_an_image": 1}


def test_a_real_number_of_rows(tmp_path: Path) -> None:
    """Every hundredth of the real size; how long all of it takes stands in docs/benchmarks.md."""
    rng = np.random.default_rng(0)
    names = [f"{int(value):x}" for value in rng.integers(2**44, 2**62, 1100)]
    labels = pd.Series([f"{'culture' if i < 398 else 'tag'}::{i}" for i in range(1103)])
    labels.rename("attribute_name").to_csv(tmp_path / "labels.csv", index_label="attribute_id")
    rows = [f"{name},{' '.join(map(str, rng.permutation(1103)[:4]))}" for name in names]
    (tmp_path / "train.csv").write_text("\n".join(["id,attribute_ids", *rows]))
    (tmp_path / "sample_submission.csv").write_text("id,attribute_ids\n1,0\n")
    for split, those in (("train", names), ("test", ["1"])):
        (tmp_path / split).mkdir()
        for name in those:
            (tmp_path / split / f"{name}.png").touch()
    data = read(tmp_path)
    assert data.labels["group"].value_counts().to_dict() == {"tag": 705, "culture": 398}
    assert data.manifests["train"]["label_id"].map(len).eq(4).all()
