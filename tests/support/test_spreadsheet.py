"""No cell of a table that we write is a formula, and none is lost."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstack.support.spreadsheet import harmless, plain, read_table, write_table

SIGNS = "=+-@\t\r\n＝＋－＠"
texts = st.text(st.sampled_from([*SIGNS, *"'a1.e\" ,;"]), max_size=8) | st.text(max_size=20)


@given(texts)
def test_cells_are_harmless_and_come_back(text: str) -> None:
    cell = harmless(text)
    assert plain(cell) == text
    assert cell in {text, f"'{text}"}
    if cell[:1] in SIGNS and cell:
        assert np.isfinite(float(cell)) or abs(float(cell)) == np.inf  # numbers stay numbers


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"), ("+1+1", "'+1+1"), ("-x.jpg", "'-x.jpg"), ("@SUM(1)", "'@SUM(1)"),
        ("\tx", "'\tx"), ("\r=1", "'\r=1"), ("'=1", "''=1"), ("'quoted'", "'quoted'"), ("a=1", "a=1"), ("", ""),
        ("-5", "-5"), ("+1.5e-3", "+1.5e-3"), ("-", "'-"), ("-5x", "'-5x"), ("-1\n", "'-1\n"),
    ],
)  # fmt: skip
def test_the_rule(text: str, cell: str) -> None:
    assert harmless(text) == cell
    assert plain(cell) == text


def test_tables_come_back_whole(tmp_path: Path) -> None:
    names = ["=1+1", "'=1", "-5", "plain", '@"x",y', "+a\nb"]
    frame = pd.DataFrame({"name": names, "-score": [-0.5, 1.0, np.nan, 0.25, -1e-9, 2.0], "n": range(-1, 5)})
    write_table(frame, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), frame)
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", "'-score", "n"]
    assert [row[0] for row in rows[1:]] == ["'=1+1", "''=1", "-5", "plain", '\'@"x",y', "'+a\nb"]
    assert rows[1][1:] == ["-0.5", "-1"]
    assert list(frame) == ["name", "-score", "n"]  # the table itself stays


def test_tables_without_such_cells_have_the_bytes_of_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"label_id": [1, 2], "name": ["a", None], "f1": [-0.25, np.nan]})
    write_table(frame, tmp_path / "ours.csv", float_format="%.6f")
    frame.to_csv(tmp_path / "theirs.csv", index=False, float_format="%.6f")
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


def test_names_of_files_that_are_no_utf_8_are_written(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": pd.Series(["=a\udcff.jpg", "b.jpg"], dtype=object)})
    write_table(frame, tmp_path / "t.csv", errors="backslashreplace")
    assert (tmp_path / "t.csv").read_text() == "image\n'=a\\udcff.jpg\nb.jpg\n"
