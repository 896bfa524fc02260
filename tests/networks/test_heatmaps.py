"""Maps of what a network looks at, against NumPy by hand, and the squares about their heat."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from labelstack.networks.heatmaps import heat_box, heatmaps_of
from labelstack.networks.model import build_model
from labelstack.networks.tasks import multi_label
from labelstack.params.models import ModelSection
from labelstack.support.box import Box

SIZE, N_LABELS = 32, 4


def network(**head: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    params = ModelSection(backbone="small_cnn", image_size=SIZE, options={"filters": [4, 6]}, head=head)
    return build_model(params, multi_label(params, N_LABELS))


def images(n: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), np.uint8)


def scaled(heat: NDArray[Any]) -> NDArray[Any]:
    positive = np.maximum(heat, 0)
    return positive / np.maximum(positive.max(axis=(1, 2), keepdims=True), 1e-30)


def test_an_average_and_logits_have_a_class_activation_map() -> None:
    model = network(pooling="average", units=[], dropout=0.5)
    features = np.asarray(keras.Model(model.inputs, model.get_layer("pooling").input)(images()))
    kernel, bias = model.get_layer("logits").get_weights()
    best = (features.mean(axis=(1, 2)) @ kernel + bias).argmax(axis=1)
    by_hand = np.einsum("bhwc,cb->bhw", features, kernel[:, best])
    found = heatmaps_of(model)(images())
    assert found.shape == (3, *features.shape[1:3])
    np.testing.assert_allclose(found, scaled(by_hand), atol=1e-5)
    assert (found.max(axis=(1, 2)) == 1).all()


@pytest.mark.parametrize("head", [{"pooling": "max", "units": [], "dropout": 0}, {"pooling": "average", "units": [5]}])
def test_other_heads_have_the_mean_gradients_as_weights(head: dict[str, Any]) -> None:
    """Gradients by differences: each channel raised everywhere by a little, over the number of places."""
    model = network(**head)
    features = np.asarray(keras.Model(model.inputs, model.get_layer("pooling").input)(images())).astype(np.float64)
    layers = [model.get_layer(name) for name in (*("dense_1" for _ in head["units"]), "logits")]

    def logits(maps: NDArray[np.float64]) -> NDArray[np.float64]:
        x = maps.max(axis=(1, 2)) if head["pooling"] == "max" else maps.mean(axis=(1, 2))
        for layer in layers:
            kernel, bias = layer.get_weights()
            x = x @ kernel.astype(np.float64) + bias
            x = np.maximum(x, 0) if layer.name != "logits" else x
        return np.asarray(x)

    base = logits(features)
    best, rows = base.argmax(axis=1), np.arange(len(base))
    weights = np.empty((len(base), features.shape[-1]))
    for channel in range(features.shape[-1]):
        raised = features.copy()
        raised[..., channel] += 1e-6
        weights[:, channel] = (logits(raised) - base)[rows, best] / 1e-6
    by_hand = np.einsum("bhwc,bc->bhw", features, weights)
    np.testing.assert_allclose(heatmaps_of(model)(images()), scaled(by_hand), atol=1e-3)


def heat(rows: list[str]) -> NDArray[np.float32]:
    return np.array([[int(value) for value in row] for row in rows], np.float32) / 9


def test_the_square_is_about_the_largest_block() -> None:
    """Enlarged eight times, so that bilinear edges are a few hundredths: 2 × 1 cells against a hotter single one."""
    found = heat_box(heat(["00000000", "09900000", "00000000", "00000090", *["00000000"] * 4]), 64, 100, 100, 0.5)
    assert found is not None
    assert found.left == pytest.approx(1 / 8, abs=0.02)
    assert found.right == pytest.approx(3 / 8, abs=0.02)
    assert found.right - found.left == pytest.approx(found.bottom - found.top)
    assert (found.top + found.bottom) / 2 == pytest.approx(3 / 16, abs=0.01)


def test_it_is_a_square_of_the_photo_and_clipped_to_it() -> None:
    column = heat(["0900"] * 4)
    tall = heat_box(column, 64, 100, 200, 0.5)  # the block is 200 px tall, a square of it is wider than the photo
    assert tall == Box(0, 0, 1, 1)
    wide = heat_box(column, 64, 400, 100, 0.5)  # about 100 px wide and 100 px tall
    assert wide is not None
    assert (wide.top, wide.bottom) == (0, 1)
    assert (wide.right - wide.left) * 400 == pytest.approx(100, abs=5)


def test_blocks_that_touch_at_a_corner_are_two() -> None:
    corner = np.kron(heat(["9900", "9900", "0090", "0009"]), np.ones((16, 16), np.float32))
    assert heat_box(corner, 64, 10, 10, 0.25) == Box(0, 0, 0.5, 0.5)


def test_no_heat_no_box() -> None:
    assert heat_box(np.zeros((4, 4), np.float32), 32, 10, 10, 0.25) is None


@given(st.integers(0, 10_000), st.integers(20, 300), st.integers(20, 300), st.sampled_from([0.1, 0.25, 0.6]))
def test_a_box_is_a_square_unless_it_is_clipped(seed: int, width: int, height: int, threshold: float) -> None:
    drawn = np.random.default_rng(seed).random((5, 5)).astype(np.float32)
    box = heat_box(drawn, 40, width, height, threshold)
    assert box is not None
    assert 0 <= box.left < box.right <= 1
    assert 0 <= box.top < box.bottom <= 1
    sides = (box.right - box.left) * width, (box.bottom - box.top) * height
    clipped = box.left == 0 or box.right == 1 or box.top == 0 or box.bottom == 1
    assert clipped or sides[0] == pytest.approx(sides[1])
