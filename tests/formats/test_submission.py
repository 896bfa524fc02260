from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstack.formats.submission import Form, write_submission


def test_the_file_is_as_the_competition_wants_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "submission.csv"
    write_submission(path, Form(np.array([3, 1, 2])), [[12, 7], [], {5}])
    assert path.read_bytes() == b"id,predicted\n3,7 12\n1,\n2,5\n"


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(0, 2**63 - 1), st.sets(st.integers(0, 2**31 - 1), max_size=9), max_size=20))
def test_every_image_comes_back_with_its_labels(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[int, set[int]]
) -> None:
    path = tmp_path_factory.mktemp("out") / "s.csv"
    write_submission(path, Form(np.array(list(rows), dtype=np.int64)), list(rows.values()))
    with path.open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["id", "predicted"]
    assert {int(i): set(map(int, labels.split())) for i, labels in lines} == rows
    assert all(list(map(int, labels.split())) == sorted(map(int, labels.split())) for _, labels in lines)


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        ([1, 1], [[], []], r"unique; found more than once: \[1\]"),
        ([1, 2], [[]], "one collection of labels per image id"),
        ([[1]], [[]], "one collection"),
        ([1.0], [[]], "integers, not float64"),
        ([-1], [[]], "negative"),
        ([1], [[-2]], "whole numbers"),
        ([1], [[2.0]], "whole numbers"),
        ([1], [[True]], "whole numbers"),
        ([1], [[2, 2]], "image 1: a label stands twice"),
    ],
)
def test_nothing_is_written_when_rows_do_not_fit(tmp_path: Path, ids: list, labels: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_submission(tmp_path / "s.csv", Form(np.array(ids)), labels)
    assert list(tmp_path.iterdir()) == []
