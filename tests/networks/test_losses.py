"""Losses against their formulas on probabilities."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from labelstack.networks.losses.balanced_bce import positive_weights
from labelstack.networks.tasks import cross_entropy, multi_label
from networks.tiny_training import tiny

RNG = np.random.default_rng(1)
LOGITS = RNG.normal(0, 3, (6, 4)).astype(np.float32)
HARD = (RNG.random((6, 4)) < 0.4).astype(np.float32)
SOFT = RNG.random((6, 4)).astype(np.float32)
P = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))


def loss_of(targets, logits, prior=None, **params):
    return multi_label(tiny(**params), logits.shape[1], prior).loss(targets, logits, None)


@pytest.mark.parametrize("targets", [HARD, SOFT])
@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_bce_is_the_cross_entropy_of_smoothed_targets(targets, smoothing):
    expected = keras.losses.binary_crossentropy(targets, LOGITS, from_logits=True, label_smoothing=smoothing)
    loss = loss_of(targets, LOGITS, loss="bce", label_smoothing=smoothing)
    assert loss.shape == (6,)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    smoothed = targets * (1 - smoothing) + smoothing / 2
    formula = -(smoothed * np.log(P) + (1 - smoothed) * np.log(1 - P)).mean(1)
    np.testing.assert_allclose(loss, formula, rtol=1e-4)


def test_focal_is_keras_binary_focal_cross_entropy_for_hard_targets():
    expected = keras.losses.binary_focal_crossentropy(HARD, LOGITS, from_logits=True, gamma=2)
    np.testing.assert_allclose(loss_of(HARD, LOGITS, loss="focal"), expected, rtol=1e-4, atol=1e-6)


def test_focal_of_soft_targets_is_nothing_for_the_answer_itself_which_keras_form_is_not():
    soft = (-(SOFT * np.log(P) + (1 - SOFT) * np.log(1 - P)) * (SOFT - P) ** 2).mean(1)
    np.testing.assert_allclose(loss_of(SOFT, LOGITS, loss="focal"), soft, rtol=1e-4)
    answered = P.astype(np.float32)
    np.testing.assert_allclose(loss_of(answered, LOGITS, loss="focal"), 0, atol=1e-9)
    assert np.min(keras.losses.binary_focal_crossentropy(answered, LOGITS, from_logits=True, gamma=2)) > 1e-3


def test_balanced_weighs_positives():
    frequency = np.array([0.5, 0.1, 0.001, 0.0])
    assert positive_weights(frequency).tolist() == [1, 3, 10, 10]
    expected = -(positive_weights(frequency) * HARD * np.log(P) + (1 - HARD) * np.log(1 - P)).mean(1)
    np.testing.assert_allclose(loss_of(HARD, LOGITS, frequency, loss="balanced_bce"), expected, rtol=1e-4)
    assert positive_weights(np.array([0.9, 1.0])).tolist() == [1, 1]


@pytest.mark.parametrize("name", ["bce", "balanced_bce", "focal"])
def test_extreme_logits_stay_finite_and_half_precision_is_widened(name):
    logits = np.array([[200.0, -200.0]], np.float16)
    values = np.asarray(loss_of(np.array([[0.0, 1.0]]), logits, np.full(2, 0.5), loss=name))
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert values[0] > 50


def test_misuse():
    with pytest.raises(ValueError, match="needs the label frequencies"):
        loss_of(HARD, LOGITS, loss="balanced_bce")
    with pytest.raises(ValueError, match="between 0 and 1"):
        positive_weights(np.array([3.0]))


def test_a_task_says_what_its_network_looks_like_and_how_held_out_rows_are_judged():
    task = multi_label(tiny(), 3, np.array([0.5, 0.9, 0.0]))
    assert (task.outputs, task.activation) == (3, "sigmoid")
    np.testing.assert_allclose(1 / (1 + np.exp(-task.first_bias)), [0.5, 0.9, 1e-4], rtol=1e-4)
    assert multi_label(tiny(), 3).first_bias is None
    expected = keras.losses.binary_crossentropy(HARD, P).numpy().mean()
    assert task.monitor(HARD.astype(bool), P.astype(np.float32)) == pytest.approx(expected, rel=1e-5)
    assert cross_entropy(np.array([[True]]), np.array([[0.0]], np.float32)) == pytest.approx(-np.log(1e-7))
