from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from formats.files import GOOD, problems_of, write
from labelstack.errors import InputProblems, UserError
from labelstack.formats.imaterialist2018 import read_answers, read_dataset


def test_label_names_and_groups_come_from_labels_csv(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD, '\ufefflabel_id,name\r\n7,plain\r\n3,garment::t-shirt::x\r\n9,"a, b"\r\n')
    labels = read_dataset(root, (1, 10)).labels
    assert labels["label_id"].tolist() == [3, 7, 9]
    assert labels["name"].tolist() == ["garment::t-shirt::x", "plain", "a, b"]
    assert labels["group"].tolist() == ["garment", "", ""]
    assert labels["n_train"].tolist() == [2, 1, 0]


def test_a_declared_range_is_the_label_table(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path, GOOD), (1, 228))
    assert dataset.labels["label_id"].tolist() == list(range(1, 229))
    assert dataset.counts["labels_without_train_image"] == 226


def test_labels_outside_of_the_range_or_table_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD)
    assert problems_of(root, (1, 6)) == [
        "train.json: annotations[0] (image_id 1): label_id[0]: "
        'expected a label id of 1…6 (dataset.label_ids), found "7"'
    ]
    write(root, {}, "label_id,name\n3,a\n")
    assert problems_of(root) == [
        'train.json: annotations[0] (image_id 1): label_id[0]: expected a label of labels.csv, found "7"'
    ]


@pytest.mark.parametrize("label_ids", [(5, 4), (-1, 4), (0, 2**31)])
def test_a_senseless_range_is_refused(tmp_path: Path, label_ids: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=r"dataset\.label_ids: expected"):
        read_dataset(write(tmp_path, GOOD), label_ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: expected the header label_id,name, found an empty file"),
        ("id,name\n3,a\n", 'line 1: expected the header label_id,name, found "id,name"'),
        ("label_id,name\n", "expected at least one label, found only the header"),
        ("label_id,name\n3,a\n7,b\n8,b\n", 'line 4: name: expected each name once, found "b" on line 3 too'),
        ("label_id,name\n3,a\n7,b\n8\n", "line 4: expected two fields (label_id,name), found 1"),
        ("label_id,name\n3,a\n7,b\n8, \n", "line 4: name: expected text, found none"),
        ("label_id,name\n3,a\n7,b\n-8,c\n", 'line 4: label_id: expected an integer of 0…100, found "-8"'),
        ("label_id,name\n3,a\n7,b\n101,c\n", 'line 4: label_id: expected an integer of 0…100, found "101"'),
        ('label_id,name\n3,a\n7,"b', "not readable as CSV (unexpected end of data)"),
    ],
)
def test_a_malformed_label_table_is_explained(tmp_path: Path, text: str, expected: str) -> None:
    problems = problems_of(write(tmp_path, GOOD, text), (0, 100))
    assert problems[0] == f"labels.csv: {expected}"


def test_a_label_table_that_is_not_text_is_explained(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD)
    (root / "labels.csv").write_bytes(b"label_id,name\n3,\xe9\n")
    assert problems_of(root) == ["labels.csv: expected UTF-8 text, found another byte at position 16"]


def test_answers_are_read_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "test_answers.json"
    path.write_text('{"annotations": [{"image_id": 9, "label_id": ["7", 3]}, {"image_id": "4", "label_id": []}]}')
    answers = read_answers(path, pd.DataFrame({"label_id": [3, 7]}))
    assert answers.to_dict("list") == {"image_id": [9, 4], "label_id": [[3, 7], []]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"annotations": [{"image_id": 9, "label_id": [8]}]}', "expected a label of the data set, found 8"),
        ('{"annotations": []}', "expected at least one record"),
        ("{", "line 1, column 2"),
        (None, "expected this file, found none"),
    ],
)
def test_bad_answers_are_refused(tmp_path: Path, text: str | None, expected: str) -> None:
    path = tmp_path / "answers.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputProblems) as caught:
        read_answers(path, pd.DataFrame({"label_id": [3, 7]}))
    assert expected in caught.value.problems[0]
    assert len(caught.value.problems) == 1
