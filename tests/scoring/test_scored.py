"""Label sets that are compared: on disk and back, one digest whatever their order, and never mixed with other data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labelstack.params.metric import MetricSection
from labelstack.scoring.metric import FMetric, metric_of
from labelstack.scoring.scored import Scored, read_scored, write_scored
from labelstack.support.errors import UserError
from scoring.test_metric import Pooled


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


def test_a_file_of_label_sets_is_as_it_was_before_there_was_anything_else(tmp_path: Path) -> None:
    scored = made_up(20, 9)
    write_scored(tmp_path / "s.npz", scored)
    with (tmp_path / "before.npz").open("wb") as file:
        np.savez_compressed(
            file,
            image_id=scored.image_id,
            label_id=scored.label_id,
            truth=np.packbits(scored.truth, axis=1),
            names=np.array(list(scored.chosen), dtype=np.str_),
            chosen=np.stack([np.packbits(labels, axis=1) for labels in scored.chosen.values()]),
        )
    assert (tmp_path / "s.npz").read_bytes() == (tmp_path / "before.npz").read_bytes()
    assert read_scored(tmp_path / "before.npz").probability == {}


def with_more(scored: Scored, seed: int = 0) -> Scored:
    """The same with probabilities and counts of every model."""
    rng = np.random.default_rng(seed)
    n, n_labels = scored.truth.shape
    probability = {name: rng.random((n, n_labels)).astype(np.float32) for name in scored.chosen}
    counts = {name: rng.integers(0, 10**9, (n, 4)) for name in scored.chosen}
    return Scored(scored.image_id, scored.label_id, scored.truth, scored.chosen, probability, counts)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 12), n_labels=st.integers(1, 10), seed=st.integers(0, 1000))
def test_what_metrics_want_is_kept_and_aligned(
    tmp_path_factory: pytest.TempPathFactory, n: int, n_labels: int, seed: int
) -> None:
    scored = with_more(made_up(n, n_labels, seed), seed)
    path = tmp_path_factory.mktemp("scored") / "scored.npz"
    write_scored(path, scored)
    found = read_scored(path)
    assert found.digest == scored.digest == made_up(n, n_labels, seed).digest
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(n), rng.permutation(n_labels)
    pick = np.ix_(rows, columns)
    turned = Scored(
        found.image_id[rows],
        found.label_id[columns],
        found.truth[pick],
        {name: values[pick] for name, values in found.chosen.items()},
        {name: values[pick] for name, values in found.probability.items()},
        {name: values[rows] for name, values in found.counts.items()},
    )
    aligned = scored.aligned(turned)
    ranking, pooled = metric_of(MetricSection(primary="mean_average_precision")), Pooled(MetricSection())
    for name in scored.chosen:
        for metric in (FMetric(), ranking, pooled):
            given_, back = scored.given(metric, name), aligned.given(metric, name)
            assert given_ is not None
            assert back is not None
            assert back.dtype == given_.dtype
            np.testing.assert_array_equal(back, given_)


def test_what_was_not_kept_is_not_given() -> None:
    scored = made_up(5, 3)
    assert scored.given(metric_of(MetricSection(primary="mean_average_precision")), "blend") is None
    assert scored.given(Pooled(MetricSection()), "blend") is None
    assert scored.given(FMetric(), "another") is None


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
    with pytest.raises(ValueError, match=r"mine has shape \(5, 2\), expected \(5, 3\)"):
        Scored(scored.image_id, scored.label_id, scored.truth, {}, {"mine": np.zeros((5, 2), np.float32)})
    with pytest.raises(ValueError, match=r"mine has counts of shape \(4, 2\), expected 5 rows"):
        Scored(scored.image_id, scored.label_id, scored.truth, {}, {}, {"mine": np.zeros((4, 2))})


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
