"""Metrics against scikit-learn on random and degenerate input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.metrics import fbeta_score, precision_score, recall_score

from labelstack.scoring import metrics

AVERAGES = metrics.AVERAGES


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two 0/1 matrices, often with empty rows and columns."""
    shape = draw(array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
    matrix = arrays(np.uint8, shape, elements=st.integers(0, 1), fill=st.just(0))
    return draw(matrix), draw(matrix)


def padded(y: np.ndarray) -> np.ndarray:
    """scikit-learn reads a single column as two classes, so samples scores get a second, empty label."""
    return np.column_stack([y, np.zeros(len(y), y.dtype)]) if y.shape[1] == 1 else y


def expected(score: object, y: np.ndarray, p: np.ndarray, average: str, **options: float) -> float:
    if y.shape[1] == 1 and average != "samples":
        return score(y[:, 0], p[:, 0], average="binary", zero_division=0, **options)  # type: ignore[operator]
    return score(padded(y), padded(p), average=average, zero_division=0, **options)  # type: ignore[operator]


@settings(max_examples=150, deadline=None)
@given(answers(), st.sampled_from([0.5, 1.0, 2.0]))
def test_equal_to_scikit_learn(pair: tuple[np.ndarray, np.ndarray], beta: float) -> None:
    y, p = pair
    for average in AVERAGES:
        want = expected(fbeta_score, y, p, average, beta=beta)
        assert metrics.f_beta(y, p, average=average, beta=beta) == pytest.approx(want, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(answers())
def test_per_label_equal_to_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = pair
    found = metrics.per_label(y, p, beta=2)
    width = y.shape[1]
    sets = padded(y), padded(p)
    np.testing.assert_allclose(found["f2"], fbeta_score(*sets, beta=2, average=None, zero_division=0)[:width])
    np.testing.assert_allclose(found["precision"], precision_score(*sets, average=None, zero_division=0)[:width])
    np.testing.assert_allclose(found["recall"], recall_score(*sets, average=None, zero_division=0)[:width])
    np.testing.assert_array_equal(found["support"], y.sum(axis=0))
    np.testing.assert_array_equal(found["predicted"], p.sum(axis=0))


@settings(max_examples=100, deadline=None)
@given(answers(), st.sampled_from([0.5, 1.0, 2.0]))
def test_f_beta_per_image_equal_to_scikit_learn_row_by_row(pair: tuple[np.ndarray, np.ndarray], beta: float) -> None:
    y, p = (np.vstack([matrix, np.zeros((1, matrix.shape[1]), matrix.dtype)]) for matrix in pair)  # an empty row
    found = metrics.f_beta_per_image(y, p, beta=beta)
    rows = range(len(y))
    want = [fbeta_score(y[i], p[i], beta=beta, average="binary", zero_division=0) for i in rows]
    np.testing.assert_allclose(found, want, atol=1e-12)
    assert found[-1] == 0
    assert found.mean() == pytest.approx(metrics.f_beta(y, p, average="samples", beta=beta), abs=1e-12)


def test_large_random_input() -> None:
    rng = np.random.default_rng(0)
    y = rng.random((3000, 40)) < 0.1
    score = rng.random((3000, 40)).astype(np.float32)
    assert metrics.f_beta(y, score > 0.5, average="samples") == pytest.approx(
        fbeta_score(y, score > 0.5, beta=1, average="samples", zero_division=0), abs=1e-12
    )


def test_zero_over_zero_is_zero_and_perfect_is_one() -> None:
    nothing = np.zeros((3, 4), np.uint8)
    everything = np.ones((3, 4), bool)
    for average in AVERAGES:
        assert metrics.f_beta(nothing, nothing, average=average) == 0
        assert metrics.f_beta(everything, everything, average=average) == 1


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([[0, 2]], [[0, 1]], "y_true must hold only 0 and 1"),
        ([[0, 1]], [[0.0, 0.5]], "y_pred must hold only 0 and 1"),
        ([[0, 1]], [["a", "b"]], "y_pred must hold only 0 and 1"),
        ([0, 1], [[0, 1]], r"y_true must be \[n, n_labels\]"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "y_true must be"),
        ([[0, 1]], [[0, 1], [1, 1]], "y_pred has shape"),
    ],
)
def test_bad_answers_are_refused_by_name(y: object, p: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.f_beta(y, p, average="samples")  # type: ignore[arg-type]


def test_bad_options_are_refused_by_name() -> None:
    y = np.eye(3, dtype=bool)
    with pytest.raises(ValueError, match="average must be one of"):
        metrics.f_beta(y, y, average="weighted")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beta must be above 0"):
        metrics.f_beta(y, y, average="macro", beta=0)
