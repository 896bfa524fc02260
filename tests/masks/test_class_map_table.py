"""The table of class maps: what is written is read, the same bytes in parts or whole, what is no such table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstack.masks.class_map_table import (
    AT_ONCE,
    ClassMapWriter,
    class_map_groups,
    join_class_maps,
    map_categories,
)
from labelstack.support.errors import UserError

CATEGORIES = np.array([3, 7, 300])


def maps(n: int, seed: int = 0) -> list[tuple[int, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(10**15 + i, rng.integers(0, 4, rng.integers(1, 9, 2))) for i in range(n)]


def write(path: Path, rows: Iterable[tuple[int, np.ndarray]]) -> Path:
    with ClassMapWriter(path, CATEGORIES) as writer:
        for image_id, one in rows:
            writer.add(image_id, one)
    return path


@settings(deadline=None, max_examples=30)
@given(n=st.integers(0, 3 * AT_ONCE), parts=st.integers(1, 4))
def test_what_is_written_is_read_and_parts_joined_are_the_whole(
    n: int, parts: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, rows = tmp_path_factory.mktemp("maps"), maps(n, parts)
    whole = write(folder / "whole.parquet", rows)
    groups = list(class_map_groups(whole))
    assert all(len(group) <= AT_ONCE for group in groups)
    read = [one for group in groups for one in group]
    assert [image_id for image_id, _ in read] == [image_id for image_id, _ in rows]
    for (_, found), (_, expected) in zip(read, rows, strict=True):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)
    assert map_categories(whole).tolist() == CATEGORIES.tolist()
    files = [write(folder / f"{i}.parquet", rows[i::parts]) for i in range(parts)]
    join_class_maps(folder / "joined.parquet", files, CATEGORIES)
    again = write(folder / "again.parquet", [row for i in range(parts) for row in rows[i::parts]])
    assert (folder / "joined.parquet").read_bytes() == again.read_bytes()


def test_an_error_on_the_way_leaves_no_file(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[int, np.ndarray]]:
        yield from maps(AT_ONCE + 1)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write(tmp_path / "a.parquet", rows())
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.parquet: not found. Run `dvc repro`"):
        map_categories(tmp_path / "gone.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UserError, match=r"text.parquet: not a table of class maps \("):
        list(class_map_groups(tmp_path / "text.parquet"))
    pq.write_table(pa.table({"image_id": [1]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match="with columns image_id, height, width, classes"):
        map_categories(tmp_path / "other.parquet")
