"""What students and pseudo labels learn: targets against plain loops, teachers of folds, weights on audit rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.predictions import write_predictions
from labelstack.stacking.blending import blend
from labelstack.stacking.student_weights import student_weights
from labelstack.stages.members import Network
from labelstack.stages.rows import Rows
from labelstack.stages.second_kinds.kind import kind_of
from labelstack.stages.second_kinds.pseudo import added_labels, surest
from labelstack.stages.second_kinds.student import greater_targets, mixed_targets
from labelstack.stages.second_kinds.teacher import Taught
from labelstack.support.errors import UserError

N, L, K = 60, 7, 3


@pytest.fixture
def drawn() -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    return rng.random((N, L)) < 0.3, rng.random((N, L)).astype(np.float32)


def test_greater_targets_are_the_greater_of_label_and_scaled_teacher(drawn: Any) -> None:
    Y, P = drawn
    expected = [[max(float(Y[i, j]), 0.7 * float(P[i, j])) for j in range(L)] for i in range(N)]
    np.testing.assert_allclose(greater_targets(Y, P, 0.7), expected, atol=1e-6)
    one = np.eye(L, dtype=bool)[np.arange(N) % L]
    np.testing.assert_allclose(greater_targets(one, P, 0.7, exclusive=True).sum(axis=1), 1, atol=1e-6)


def test_mixed_targets_at_temperature_1_are_the_mean_and_a_high_one_softens(drawn: Any) -> None:
    Y, P = drawn
    np.testing.assert_allclose(mixed_targets(Y, P, 0.5, 1), (Y + P) / 2, atol=2e-6)
    np.testing.assert_allclose(mixed_targets(Y, P, 1, 5), Y)
    soft = mixed_targets(Y, P, 0, 4)
    assert (np.abs(soft - 0.5) <= np.abs(P - 0.5) + 1e-6).all()
    by_hand = 1 / (1 + ((1 - 0.9) / 0.9) ** (1 / 2))  # odds of 9 to the power of a half
    np.testing.assert_allclose(mixed_targets(np.zeros((1, 1), bool), np.full((1, 1), 0.9, np.float32), 0, 2), by_hand)
    rows = P / P.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mixed_targets(Y, rows, 0, 3, exclusive=True).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(mixed_targets(Y, rows, 0, 1, exclusive=True), rows, atol=1e-6)


@given(st.floats(0.05, 0.9), st.floats(0, 0.9))
def test_labels_are_only_added_and_only_above_the_margin(threshold: float, margin: float) -> None:
    rng = np.random.default_rng(0)
    Y, P = rng.random((20, 5)) < 0.3, rng.random((20, 5)).astype(np.float32)
    added = added_labels(Y, P, threshold, margin)
    for i in range(20):
        for j in range(5):
            above = P[i, j] - np.float32(threshold) > np.float32(margin)
            assert added[i, j] == (Y[i, j] or above)


def test_the_surest_rows_are_those_farthest_from_a_half() -> None:
    P = np.array([[0.5, 0.5], [1, 0], [0.9, 0.5], [0, 0]], np.float32)
    assert surest(P, 0.75).tolist() == [1, 3, 2]
    assert surest(P, 0).tolist() == []


def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **section: Any) -> tuple[Taught, Rows, dict[str, Any]]:
    """Predictions of two base models by three folds' networks, and the rows outside of fold 0."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    Y = rng.random((N, L)) < 0.3
    folds, P = np.arange(N) % K, {}
    row_id = np.arange(N, dtype=np.int64) + 100
    for place, name in enumerate(("good", "poor")):
        noise = rng.random((N, L))
        P[name] = (0.8 * Y + 0.2 * noise if place == 0 else noise).astype(np.float32)
        for fold in range(K):
            own = Network(name, str(fold))
            write_predictions(own.predictions / "oof.npy", row_id[folds == fold], P[name][folds == fold])
            test = np.full((10, L), 0.1 * (fold + 1) + 0.3 * place, np.float32)
            test[:3, 0] = 0.95
            write_predictions(own.predictions / "test.npy", np.arange(10, dtype=np.int64), test)
    model = {"backbone": "small_cnn"}
    content = {
        "base_models": list(range(K)),
        "folds": {"k": K},
        "models": {"good": model, "poor": model},
        "stackers": {"mean": {"kind": "mean"}},
        "second_round": {"own": {"after": ["good", "poor"], **section}},
    }
    params = Params.model_validate(content)
    kind = kind_of(params, params.second_round["own"])
    assert isinstance(kind, Taught)
    rows = Rows("train", row_id, row_id, Y).where(folds != 0)
    return kind, rows, {name: p[folds != 0] for name, p in P.items()}


def test_the_teacher_is_the_mean_of_what_other_folds_networks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, rows, P = made(tmp_path, monkeypatch, kind="student")
    np.testing.assert_allclose(kind.teacher(rows), (P["good"] + P["poor"]) / 2, atol=1e-6)
    targets = kind.targets(rows)
    np.testing.assert_allclose(targets, np.maximum(rows.Y, 0.35 * (P["good"] + P["poor"])), atol=1e-6)
    assert kind.more(rows) is None
    assert kind.start("0") is None


def test_a_fitted_teacher_listens_to_who_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, rows, _ = made(tmp_path, monkeypatch, kind="student", teacher="fitted")
    weights = kind.weights(rows)
    assert weights["good"] > 0.9
    assert sum(weights.values()) == pytest.approx(1)


def test_pseudo_labels_are_added_and_sure_test_rows_come_besides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, rows, P = made(tmp_path, monkeypatch, kind="pseudo", threshold=0.3, margin=0.2, test=0.3)
    targets, mean = kind.targets(rows), (P["good"] + P["poor"]) / 2
    assert targets is not None
    np.testing.assert_array_equal(targets > 0, rows.Y | (mean - np.float32(0.3) > np.float32(0.2)))
    more = kind.more(rows)
    assert more is not None
    assert sorted(more.row_id) == [0, 1, 2]  # the mean of the others is 0.35 of every label, of these one is near 1
    assert more.targets.tolist() == [[1.0] * L] * 3
    numbers = kind.numbers(rows)
    assert numbers["pseudo.threshold"] == pytest.approx(0.3)
    assert numbers["pseudo.labels_added"] == targets.sum() - rows.Y.sum()
    assert numbers["pseudo.test_rows"] == 3


def test_without_a_margin_test_rows_alone_are_added_but_blank_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, rows, _ = made(tmp_path, monkeypatch, kind="pseudo", margin=None, test=1.0, threshold=0.9)
    assert alone.targets(rows) is None
    more = alone.more(rows)
    assert more is not None
    assert sorted(more.row_id) == [0, 1, 2]  # the other rows have no label above the threshold


def test_rows_of_one_group_each_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, rows, _ = made(tmp_path, monkeypatch, kind="student")
    known = Rows("train", rows.row_id, rows.image_id, rows.Y, np.full(len(rows), "a"))
    with pytest.raises(UserError, match="rows of train know one label group each"):
        kind.targets(known)


@pytest.mark.parametrize("method", ["log_loss", "greedy", "equal", "nelder_mead"])
def test_a_student_gets_a_weight_where_audit_rows_say_so(method: Any) -> None:
    rng = np.random.default_rng(5)
    Y = rng.random((400, 6)) < 0.3
    right = np.clip(0.8 * Y + 0.1 + 0.1 * rng.standard_normal(Y.shape), 0.01, 0.99).astype(np.float32)
    poor = np.clip(0.3 + 0.2 * rng.standard_normal(Y.shape), 0.01, 0.99).astype(np.float32)
    settings, metric = BlendSection(method=method), MetricSection(beta=2)
    found = student_weights(poor, {"a": right}, Y, settings, metric)
    assert found["a"] > 0.8
    found = student_weights(right, {"a": poor}, Y, settings, metric)
    assert found["a"] < 0.1
    whole = blend({"others": right, "a": poor}, {"others": 1 - found["a"], **found})
    assert whole.shape == Y.shape
