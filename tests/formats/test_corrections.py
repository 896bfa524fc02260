"""Corrections of labels: applied and counted, or refused with every fault at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from labelstack.formats.corrections import corrected, label_texts
from labelstack.formats.format import CompetitionData
from labelstack.formats.submission import Form
from labelstack.support.errors import InputProblems


def manifest(ids: list[int], sets: list[Any], names: list[str] | None = None) -> pd.DataFrame:
    columns = {
        "image_id": np.array(ids, np.int64),
        "url": pd.Series([[f"file:{i}"] for i in ids], dtype=object),
        "label_id": pd.Series(sets, dtype=object),
    }
    return pd.DataFrame(columns | ({} if names is None else {"name": pd.Series(names, dtype="str")}))


def data(names: bool = True) -> CompetitionData:
    train = manifest([11, 12, 13], [[0, 2], [5, 1], []], ["a.png", "=b.png", "c.png"] if names else None)
    validation = manifest([14, 11], [[1], [2]], ["d.png", "a.png"] if names else None)
    test = manifest([15], [None], ["t.png"] if names else None)
    labels = pd.DataFrame(
        {
            "label_id": np.array([0, 1, 2, 5], np.int32),
            "name": ["dress", "hat", "1", "dress"],
            "group": "",
            "n_train": [1, 1, 1, 1],
            "n_validation": [0, 1, 1, 0],
        }
    )
    counts = {
        "images": {"train": 3, "validation": 2, "test": 1},
        "labels_per_image": {"train": round(4 / 3, 4), "validation": 1.0},
        "labels_without_train_image": 0,
        "labels_without_validation_image": 2,
    }
    return CompetitionData(
        {"train": train, "validation": validation, "test": test}, labels, Form(np.array([15])), counts
    )


def read(root: Path, text: str, names: bool = True) -> CompetitionData:
    (root / "fixes.csv").write_text(text)
    return corrected(root, "fixes.csv", data(names))


def test_labels_are_added_and_removed_and_counted_anew(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "probability,ID,label,correction,split\n"
        "0.9,a.png,hat,add,train\n"  # in order stays in order
        "0.8,'=b.png,1,Add,\n"  # a name like an id is the name; the apostrophe is that of a spreadsheet
        "0.1,'=b.png,5,remove,\n"  # dress is the name of two
        "0.7,c.png,hat,,\n"  # passed over
        "0.7,11,1,remove,validation\n",
    )
    assert found.manifests["train"]["label_id"].tolist() == [[0, 1, 2], [1, 2], []]
    assert found.manifests["validation"]["label_id"].tolist() == [[1], []]
    assert found.labels["n_train"].tolist() == [1, 2, 2, 0]
    assert found.labels["n_validation"].tolist() == [0, 1, 0, 0]
    assert found.counts["labels_per_image"] == {"train": round(5 / 3, 4), "validation": 0.5}
    assert found.counts["labels_without_train_image"] == 1
    assert found.counts["labels_without_validation_image"] == 3
    assert found.counts["corrections"] == {
        "train": {"add": 2, "remove": 1},
        "validation": {"add": 0, "remove": 1},
    }
    assert found.manifests["test"]["label_id"].tolist() == [None]


def test_labels_in_an_order_of_their_own_keep_it(tmp_path: Path) -> None:
    found = read(tmp_path, "id,label,correction\n12,0,add\n", names=False)
    assert found.manifests["train"]["label_id"].tolist() == [[0, 2], [5, 1, 0], []]


def test_every_fault_is_told_at_once_with_line_and_column(tmp_path: Path) -> None:
    text = (
        "id,label,correction,split\n"
        "a.png,hat,add,\n"
        "t.png,hat,add,\n"
        "zebra.png,hat,add,train\n"
        "d.png,coat,add,\n"
        "d.png,dress,add,\n"
        "d.png,hat,add,\n"
        "d.png,0,remove,\n"
        "d.png,hat,replace,\n"
        "c.png,hat,add,test\n"
        "c.png,hat,add,\n"
        "c.png,hat,remove,\n"
    )
    with pytest.raises(InputProblems) as told:
        read(tmp_path, text)
    expected = [
        "fixes.csv: line 2: id: expected an image of one split, or a column split, found 'a.png' in both",
        "fixes.csv: line 3: id: expected an image of train or validation, found 't.png'",
        "fixes.csv: line 4: id: expected an image of train, found 'zebra.png'",
        "fixes.csv: line 5: label: expected a label of the data set, found 'coat'",
        "fixes.csv: line 6: label: expected the id of a label, since others have its name, found 'dress'",
        "fixes.csv: line 7: label: expected a label that the image has not, to add it, found 'hat' of d.png",
        "fixes.csv: line 8: label: expected a label that the image has, to remove it, found '0' of d.png",
        "fixes.csv: line 9: correction: expected add, remove or nothing, found 'replace'",
        "fixes.csv: line 10: split: expected train or validation, found 'test'",
        "fixes.csv: line 12: label: expected each label of an image once, found 'hat' on line 11 too",
    ]
    assert sorted(told.value.problems) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the columns id, label, correction, each once, found nothing"),
        ("id,label\n1,2\n", "expected the columns id, label, correction, each once, found id, label"),
        ("id,id,label,correction\n", "each once, found id, id, label, correction"),
        ("id,label,correction\n11,hat\n", "line 2: expected 3 fields, as the header has, found 2"),
        ('id,label,correction\n11,"hat\n', "not readable as CSV"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputProblems, match=r"fixes\.csv: ") as told:
        read(tmp_path, text)
    assert said in told.value.problems[0]


def test_a_file_that_is_not_there_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(
        InputProblems, match=r"fixes\.csv: not found in .*dataset\.corrections in params\.yaml names it"
    ):
        corrected(tmp_path, "fixes.csv", data())


def test_a_label_whose_name_others_have_is_called_by_its_id() -> None:
    assert label_texts(data().labels) == ["0", "hat", "1", "5"]
