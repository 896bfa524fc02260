from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer

from labelstack.formats.manifest import SCHEMA, label_matrix, read_manifest, write_manifest
from labelstack.support.errors import UserError


def frame(rows: list[tuple[int, list[str], list[int] | None]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": np.array([row[0] for row in rows], dtype=np.int64),
            "url": pd.Series([row[1] for row in rows], dtype=object),
            "label_id": pd.Series([row[2] for row in rows], dtype=object),
        }
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**63 - 1),
            st.lists(st.text(), max_size=3),
            st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=5),
        ),
        max_size=12,
    )
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, list[str], list[int] | None]]
) -> None:
    path = tmp_path_factory.mktemp("manifest") / "train.parquet"
    write_manifest(path, frame(rows))
    back = read_manifest(path)
    assert back["image_id"].dtype == np.int64
    assert list(zip(*(back[name].tolist() for name in SCHEMA.names), strict=True)) == rows


def test_equal_content_gives_equal_bytes_and_the_stated_schema(tmp_path: Path) -> None:
    rows = frame([(5, ["http://a/ü"], [1, 2]), (3, ["x", "y"], None)])
    write_manifest(tmp_path / "a.parquet", rows)
    write_manifest(tmp_path / "b.parquet", rows.copy())
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert [str(field.type) for field in schema] == ["int64", "list<element: string>", "list<element: int32>"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_rows_of_several_row_groups_keep_their_lists(tmp_path: Path) -> None:
    table = pa.table({"image_id": [1, 2, 3], "url": [["a"], ["b", "c"], []], "label_id": [None, [7], []]})
    pq.write_table(table.cast(SCHEMA), tmp_path / "m.parquet", row_group_size=1)
    back = read_manifest(tmp_path / "m.parquet")
    assert back["url"].tolist() == [["a"], ["b", "c"], []]
    assert back["label_id"].tolist() == [None, [7], []]


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not found"):
        read_manifest(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(UserError, match="not a manifest with columns image_id, url, label_id"):
        read_manifest(tmp_path / "text.parquet")
    pq.write_table(pa.table({"image_id": [1]}), tmp_path / "part.parquet")
    with pytest.raises(UserError, match="not a manifest"):
        read_manifest(tmp_path / "part.parquet")


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 50), min_size=1).flatmap(
        lambda ids: st.tuples(st.just(sorted(ids)), st.lists(st.lists(st.sampled_from(sorted(ids)), max_size=6)))
    )
)
def test_label_matrix_equals_scikit_learn(case: tuple[list[int], list[list[int]]]) -> None:
    columns, rows = case
    expected = MultiLabelBinarizer(classes=columns).fit([columns]).transform(rows)
    matrix = label_matrix(rows, columns)
    assert matrix.dtype == np.uint8
    np.testing.assert_array_equal(matrix, expected)


def test_label_matrix_takes_arrays_and_series() -> None:
    rows = pd.Series([np.array([9], dtype=np.int32), [2, 9]], dtype=object)
    assert label_matrix(rows, np.array([2, 5, 9])).tolist() == [[0, 0, 1], [1, 0, 1]]
    assert label_matrix([], [1, 2]).shape == (0, 2)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([[4]], [1, 2], r"label\(s\) \[4\]"),
        ([[4]], [], r"label\(s\) \[4\]"),
        ([None], [1], "None"),
        ([[1]], [2, 1], "ascending"),
        ([[1]], [1, 1], "ascending"),
    ],
)
def test_label_matrix_refuses_what_does_not_fit(rows: list, columns: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_matrix(rows, columns)
