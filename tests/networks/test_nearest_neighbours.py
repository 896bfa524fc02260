"""Labels of the nearest kept rows, against scikit-learn, and as a network on disk."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from labelstack.networks import nearest_neighbours
from labelstack.networks.inference import compile_predict, finish_of, load_model, save_model
from labelstack.networks.model import build_model
from labelstack.networks.nearest_neighbours import Neighbours, features_model, unit_rows, with_neighbours
from labelstack.networks.tasks import TASKS
from labelstack.params.models import ModelSection
from labelstack.stages.second_kinds.neighbours import left_out_loss

K, SHARPNESS = 7, 5.0


def by_sklearn(kept: np.ndarray, Y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    distance, place = NearestNeighbors(n_neighbors=K, metric="cosine").fit(kept).kneighbors(asked)
    weight = np.exp(-SHARPNESS * distance)
    return (weight[:, :, None] * Y[place]).sum(axis=1) / weight.sum(axis=1, keepdims=True)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((50, 12)), rng.random((50, 4)) < 0.4, rng.standard_normal((9, 12)).astype(np.float32)


@pytest.mark.parametrize("block", [16384, 16])  # as large as all rows, and of several
def test_votes_are_those_of_scikit_learns_neighbours(drawn, block, monkeypatch) -> None:
    monkeypatch.setattr(nearest_neighbours, "_BLOCK", block)
    features, Y, asked = drawn
    kept = unit_rows(features)
    layer = Neighbours(*features.shape, 4, K, SHARPNESS)
    layer.set_weights([kept, Y.astype(np.uint8)])
    expected = by_sklearn(kept.astype(np.float64), Y, asked)
    np.testing.assert_allclose(
        keras.ops.sigmoid(layer(asked)), expected, atol=5e-4
    )  # what is kept has the digits of float16


def test_labels_that_exclude_each_other_sum_to_1(drawn) -> None:
    features, _, asked = drawn
    Y = np.eye(4, dtype=bool)[np.arange(50) % 4]
    layer = Neighbours(*features.shape, 4, K, SHARPNESS, exclusive=True)
    layer.set_weights([unit_rows(features), Y.astype(np.uint8)])
    np.testing.assert_allclose(
        keras.ops.softmax(layer(asked)), by_sklearn(unit_rows(features).astype(np.float64), Y, asked), atol=5e-4
    )


def test_a_row_is_not_its_own_neighbour_in_the_loss(drawn) -> None:
    features, Y, _ = drawn
    kept = unit_rows(features)
    share = np.concatenate(
        [by_sklearn(np.delete(kept, i, 0).astype(float), np.delete(Y, i, 0), kept[i : i + 1]) for i in range(50)]
    )
    share = np.clip(share, 1e-6, 1 - 1e-6)
    expected = -np.where(Y, np.log(share), np.log1p(-share)).mean()
    assert left_out_loss(kept, Y, K, SHARPNESS) == pytest.approx(expected, rel=1e-3)


def test_rows_without_length_and_fewer_rows_than_k() -> None:
    kept = unit_rows(np.zeros((3, 5)))
    layer = Neighbours(3, 5, 2, 40, 10.0)
    layer.set_weights([kept, np.array([[1, 0], [1, 0], [0, 0]], np.uint8)])
    np.testing.assert_allclose(keras.ops.sigmoid(layer(np.zeros((2, 5), np.float32))), [[2 / 3, 0]] * 2, atol=1e-5)


def test_a_saved_network_looks_up_the_same(tmp_path: Path) -> None:
    params = ModelSection.model_validate(
        {"backbone": "small_cnn", "image_size": 16, "options": {"filters": [4, 8]}, "head": {"units": [6]}}
    )
    first = build_model(params, TASKS["multi_label"](params, 3, None))
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    Y = rng.random((20, 3)) < 0.5
    features = compile_predict(features_model(first))(images)
    assert features.shape == (20, 6)
    made = with_neighbours(first, features, Y, 5, 10.0)
    answers = compile_predict(made)(images)
    layer = Neighbours(20, 6, 3, 5, 10.0)
    layer.set_weights([unit_rows(features), Y.astype(np.uint8)])
    np.testing.assert_allclose(answers, keras.ops.sigmoid(layer(features)), atol=1e-5)
    save_model(made, tmp_path / "near.keras")
    again = load_model(tmp_path / "near.keras")
    np.testing.assert_array_equal(compile_predict(again)(images), answers)
    finish = finish_of(again, "logit")
    assert finish is not None
    logits = compile_predict(again, "logit")(images).astype(np.float64)
    np.testing.assert_allclose(finish(logits), answers, atol=1e-5)
