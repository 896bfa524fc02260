"""Losses against their formulas on probabilities."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from labelstack.networks.losses import make_loss, positive_weights

RNG = np.random.default_rng(1)
LOGITS = RNG.normal(0, 3, (6, 4)).astype(np.float32)
HARD = (RNG.random((6, 4)) < 0.4).astype(np.float32)
SOFT = RNG.random((6, 4)).astype(np.float32)
P = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))


@pytest.mark.parametrize("targets", [HARD, SOFT])
@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_bce_is_keras_binary_cross_entropy(targets, smoothing):
    expected = keras.losses.binary_crossentropy(targets, LOGITS, from_logits=True, label_smoothing=smoothing)
    loss = make_loss("bce", label_smoothing=smoothing)(targets, LOGITS)
    assert loss.shape == (6,)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_focal_is_keras_binary_focal_cross_entropy_for_hard_targets():
    expected = keras.losses.binary_focal_crossentropy(HARD, LOGITS, from_logits=True, gamma=2)
    np.testing.assert_allclose(make_loss("focal")(HARD, LOGITS), expected, rtol=1e-4, atol=1e-6)
    soft = (-(SOFT * np.log(P) + (1 - SOFT) * np.log(1 - P)) * (SOFT - P) ** 2).mean(1)
    np.testing.assert_allclose(make_loss("focal")(SOFT, LOGITS), soft, rtol=1e-4)


def test_balanced_weighs_positives():
    frequency = np.array([0.5, 0.1, 0.001, 0.0])
    assert positive_weights(frequency).tolist() == [1, 3, 10, 10]
    expected = -(positive_weights(frequency) * HARD * np.log(P) + (1 - HARD) * np.log(1 - P)).mean(1)
    np.testing.assert_allclose(make_loss("balanced_bce", frequency=frequency)(HARD, LOGITS), expected, rtol=1e-4)
    assert positive_weights(np.array([0.9, 1.0])).tolist() == [1, 1]


@pytest.mark.parametrize("name", ["bce", "balanced_bce", "focal"])
def test_extreme_logits_stay_finite_and_half_precision_is_widened(name):
    loss = make_loss(name, frequency=np.full(2, 0.5))
    values = np.asarray(loss(np.array([[0.0, 1.0]]), np.array([[200.0, -200.0]], np.float16)))
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert values[0] > 50


def test_misuse():
    with pytest.raises(ValueError, match="needs the label frequencies"):
        make_loss("balanced_bce")
    with pytest.raises(ValueError, match="unknown loss 'hinge'"):
        make_loss("hinge")
    with pytest.raises(ValueError, match="between 0 and 1"):
        positive_weights(np.array([3.0]))
