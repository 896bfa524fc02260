"""Label sets that are compared: on disk and back, one digest whatever their order, and never mixed with other data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labelstack.scoring.scored import Scored, read_scored, write_scored
from labelstack.support.errors import UserError


def made_up(n: int, n_labels: int, seed: int = 0, names: tuple[str, ...] = ("blend", "größe/1")) -> Scored:
    rng = np.random.default_rng(seed)

    def labels() -> NDArray[np.bool_]:
        return rng.random((n, n_labels)) < 0.4

    ids = rng.choice(10**12, n, replace=False).astype(np.int64)
    label_id = rng.choice(10**6, n_labels, replace=False).astype(np.int64)
    return Scored(ids, label_id, labels(), {name: labels() for name in names})


def shuffled(scored: Scored, seed: int = 1) -> Scored:
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(scored.image_id)), rng.permutation(len(scored.label_id))
    pick = np.ix_(rows, columns)
    chosen = {name: labels[pick] for name, labels in scored.chosen.items()}
    return Scored(scored.image_id[rows], scored.label_id[columns], scored.truth[pick], chosen)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 30), n_labels=st.integers(1, 20), seed=st.integers(0, 1000))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, n: int, n_labels: int, seed: int) -> None:
    scored = made_up(n, n_labels, seed)
    path = tmp_path_factory.mktemp("scored") / "scored.npz"
    write_scored(path, scored)
    found = read_scored(path)
    np.testing.assert_array_equal(found.image_id, scored.image_id)
    np.testing.assert_array_equal(found.label_id, scored.label_id)
    np.testing.assert_array_equal(found.truth, scored.truth)
    assert list(found.chosen) == list(scored.chosen)
    for name, labels in scored.chosen.items():
        np.testing.assert_array_equal(found.chosen[name], labels)
    assert found.digest == scored.digest


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_scored(tmp_path / f"{name}.npz", made_up(20, 9))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_truth_alone_can_be_written(tmp_path: Path) -> None:
    scored = made_up(5, 3, names=())
    write_scored(tmp_path / "s.npz", scored)
    assert read_scored(tmp_path / "s.npz").chosen == {}


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 12), n_labels=st.integers(1, 10), seed=st.integers(0, 1000))
def test_the_digest_is_that_of_the_data_in_any_order(n: int, n_labels: int, seed: int) -> None:
    scored = made_up(n, n_labels, seed)
    other = shuffled(scored, seed)
    assert other.digest == scored.digest
    assert Scored(scored.image_id, scored.label_id, scored.truth, {}).digest == scored.digest
    flipped = scored.truth.copy()
    flipped[seed % n, seed % n_labels] ^= True
    assert Scored(scored.image_id, scored.label_id, flipped).digest != scored.digest
    assert Scored(scored.image_id + 1, scored.label_id, scored.truth).digest != scored.digest
    assert Scored(scored.image_id, scored.label_id + 1, scored.truth).digest != scored.digest


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 12), n_labels=st.integers(1, 10), seed=st.integers(0, 1000))
def test_aligned_puts_rows_and_columns_into_this_order(n: int, n_labels: int, seed: int) -> None:
    scored = made_up(n, n_labels, seed)
    found = scored.aligned(shuffled(scored, seed))
    np.testing.assert_array_equal(found.truth, scored.truth)
    for name, labels in scored.chosen.items():
        np.testing.assert_array_equal(found.chosen[name], labels)


def test_other_data_are_not_aligned() -> None:
    with pytest.raises(ValueError, match="other data"):
        made_up(5, 3, 0).aligned(made_up(5, 3, 1))


def test_shapes_must_agree() -> None:
    scored = made_up(5, 3)
    with pytest.raises(ValueError, match=r"mine has shape \(4, 3\), expected \(5, 3\)"):
        Scored(scored.image_id, scored.label_id, scored.truth, {"mine": scored.truth[:4]})


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "scored.npz"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"scored\.npz"):
        read_scored(file)


def test_another_npz_and_no_file_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(UserError, match=r"other\.npz: not a file of scored label sets"):
        read_scored(tmp_path / "other.npz")
    with pytest.raises(UserError, match="not found"):
        read_scored(tmp_path / "absent.npz")
