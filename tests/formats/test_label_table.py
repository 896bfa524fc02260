from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from formats.files import GOOD, problems_of, write
from formats.published import N_LABELS, TASKS, label_map
from labelstack.formats import imaterialist2018
from labelstack.support.errors import InputProblems, UserError

HEADER = "line 1: expected the header label_id,name or labelId,taskId,labelName,taskName"
MAP = "labelId,taskId,labelName,taskName\n"


def test_label_names_and_groups_come_from_labels_csv(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD, '\ufefflabel_id,name\r\n7,plain\r\n3,garment::t-shirt::x\r\n9,"a, b"\r\n')
    labels = imaterialist2018.read(root, (1, 10)).labels
    assert labels["label_id"].tolist() == [3, 7, 9]
    assert labels["name"].tolist() == ["garment::t-shirt::x", "plain", "a, b"]
    assert labels["group"].tolist() == ["garment", "", ""]
    assert labels["n_train"].tolist() == [2, 1, 0]


def test_a_declared_range_is_the_label_table(tmp_path: Path) -> None:
    dataset = imaterialist2018.read(write(tmp_path, GOOD), (1, 228))
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


def test_the_published_label_map_gives_names_and_groups(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD)
    for bom in (False, True):
        (root / "labels.csv").write_bytes(label_map(bom=bom))
        labels = imaterialist2018.read(root, (1, N_LABELS)).labels.set_index("label_id")
        assert labels.index.tolist() == list(range(1, N_LABELS + 1))
        assert labels["name"][[1, 7, N_LABELS]].tolist() == ["Name 1", "Tops, Tees 7", "Name 228"]
        assert set(labels["group"]) == set(TASKS.values())
        assert labels["group"][[1, 2, 9]].tolist() == ["colour", "gender", "colour"]


def test_a_name_of_several_tasks_is_told_apart_by_the_task(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD, f"{MAP}3,1,Other,colour\n7,2,Other,pattern\n9,2,Plain,pattern")
    labels = imaterialist2018.read(root).labels
    assert labels["name"].tolist() == ["colour::Other", "pattern::Other", "Plain"]
    assert labels["group"].tolist() == ["colour", "pattern", "pattern"]


def test_a_fault_of_every_line_is_one_problem(tmp_path: Path) -> None:
    rows = "".join(f"{i},1,name {i}\n" for i in range(228))
    assert problems_of(write(tmp_path, GOOD, MAP + rows))[0] == (
        "labels.csv: expected four fields (labelId,taskId,labelName,taskName), found 3 (228 times, "
        "first in line 2, line 3, line 4, …)"
    )


@pytest.mark.parametrize("label_ids", [(5, 4), (-1, 4), (0, 2**31)])
def test_a_senseless_range_is_refused(tmp_path: Path, label_ids: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=r"dataset\.label_ids: expected"):
        imaterialist2018.read(write(tmp_path, GOOD), label_ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", f"{HEADER}, found an empty file"),
        ("id,name\n3,a\n", f'{HEADER}, found "id,name"'),
        ("labelId,name\n3,a\n", f'{HEADER}, found "labelId,name"'),
        (f"{MAP}3,1,a,t\n3,1,b,t\n7,1,c,t\n", "line 3: labelId: expected each id once, found 3 again"),
        (f"{MAP}3,1,a,t\n7,1,a,t\n", 'line 3: labelName: expected each name once in a task, found "a" on line 2 too'),
        (f"{MAP}3,1,a,t\n7,1,,t\n", "line 3: labelName: expected text, found none"),
        (f"{MAP}3,1,a,t\n7,1,b,\n", "line 3: taskName: expected text, found none"),
        (f"{MAP}3,1,a,t\n7,,b,t\n", "line 3: taskId: expected text, found none"),
        (f"{MAP}3,1,a,t\n7,1,b,u\n", 'line 3: taskName: expected one name for task 1, found "u", and "t" on line 2'),
        (f"{MAP}3,1,a,t\n7,1,b,c,t\n", "line 3: expected four fields (labelId,taskId,labelName,taskName), found 5"),
        (f"{MAP}x,1,a,t\n7,1,b,t\n3,1,c,t\n", 'line 2: labelId: expected an integer of 0…100, found "x"'),
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
    answers = imaterialist2018.answers(path, pd.DataFrame({"label_id": [3, 7]}))
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
        imaterialist2018.answers(path, pd.DataFrame({"label_id": [3, 7]}))
    assert expected in caught.value.problems[0]
    assert len(caught.value.problems) == 1
