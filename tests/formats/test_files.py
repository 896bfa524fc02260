"""Which files are missing, and what lies there instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from formats.files import GOOD, problems_of, write
from labelstack.commands import check
from labelstack.formats.reading import missing_files
from labelstack.params.dataset import DatasetSection

ALL = ("train.json", "validation.json", "test.json", "labels.csv", "sample_submission.csv")


def folder(root: Path, *without: str, add: tuple[str, ...] = ()) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name in (*(name for name in ALL if name not in without), *add):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    return root


def test_nothing_is_said_when_all_are_there(tmp_path: Path) -> None:
    assert missing_files(folder(tmp_path)) == []


def test_each_missing_file_is_named_with_what_it_is_for(tmp_path: Path) -> None:
    told = missing_files(folder(tmp_path, *ALL))
    assert [line.split(":")[0] for line in told] == [str(tmp_path / name) for name in ALL]
    assert [("optional" in line) for line in told] == [False, False, False, True, True]


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    (line,) = missing_files(tmp_path / "nowhere")
    assert line.endswith("there is no such folder yet; it is to hold train.json, validation.json, test.json")
    (tmp_path / "file").touch()
    assert "is a file" in missing_files(tmp_path / "file")[0]


def test_a_folder_that_the_pipeline_draws_may_be_missing(tmp_path: Path) -> None:
    assert check.missing_files(DatasetSection()) == []
    assert len(check.missing_files(DatasetSection(root=f"{tmp_path}/drawn"))) == 1


@pytest.mark.parametrize(
    ("wanted", "there", "advice"),
    [
        ("train.json", "iMaterialist_train.json", "rename it to train.json"),
        ("train.json", "fgvc5_train.json", "rename it to train.json"),
        ("train.json", "Train.JSON", "rename it to train.json"),
        ("train.json", "train (1).json", "rename it to train.json"),
        ("train.json", "train.json.zip", "unpack it"),
        ("validation.json", "val.json", "rename it to validation.json"),
        ("validation.json", "fgvc5_validation.json.zip", "unpack it as validation.json"),
        ("test.json", "imat_test.json.tar.gz", "unpack it as test.json"),
        ("labels.csv", "iMat_fashion_2018_label_map_228.csv", "rename it to labels.csv"),
        ("sample_submission.csv", "sample_submission.csv.zip", "unpack it"),
        ("sample_submission.csv", "sample_submission_randomlabel.csv", "rename it to sample_submission.csv"),
    ],
)
def test_a_similar_name_is_suggested(tmp_path: Path, wanted: str, there: str, advice: str) -> None:
    (line,) = missing_files(folder(tmp_path, wanted, add=(there,)))
    assert line.endswith(f"; {there} may be it: {advice}")


@pytest.mark.parametrize(
    ("wanted", "there"),
    [("test.json", "test_answers.json"), ("train.json", "notes.json"), ("train.json", "training.txt"),
     ("test.json", "contest.json"), ("labels.csv", "labels.txt")],
)  # fmt: skip
def test_other_files_are_not(tmp_path: Path, wanted: str, there: str) -> None:
    (line,) = missing_files(folder(tmp_path, wanted, add=(there,)))
    assert there not in line


@pytest.mark.parametrize(
    ("name", "advice"), [("train.json", "move it up"), ("train.json.zip", "move it up and unpack")]
)
def test_files_one_folder_below_are_found(tmp_path: Path, name: str, advice: str) -> None:
    (line,) = missing_files(folder(tmp_path, "train.json", add=(f"unpacked/{name}",)))
    assert f"there is one in unpacked/: {advice}" in line


def test_ingest_suggests_the_same(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD)
    (root / "train.json").rename(root / "iMaterialist_train.json")
    assert problems_of(root) == [
        "train.json: expected this file, found none; iMaterialist_train.json may be it: rename it to train.json"
    ]
