"""Networks that say which one label an image has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import accuracy_score, log_loss

from labelstack.networks.feeding import mixed_up
from labelstack.networks.heads import logits_model
from labelstack.networks.inference import load_model, save_model
from labelstack.networks.model import build_model
from labelstack.networks.tasks import multi_label, single_label
from labelstack.networks.training import train
from labelstack.params.training import TrainingSection
from networks.tiny_training import ArrayBatches, tiny

LOSS = {"loss": "cross_entropy"}
LOGITS = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]], np.float32)
ONE = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)


def loss(targets: np.ndarray, **params: float) -> np.ndarray:
    return single_label(tiny(**LOSS, **params), 3).loss(tf.constant(targets), tf.constant(LOGITS), None).numpy()


def test_the_loss_is_minus_ln_of_the_softmax_at_the_true_label() -> None:
    expected = [np.log(np.exp([2.0, 0.0, -1.0]).sum()) - 2, np.log(3)]
    np.testing.assert_allclose(loss(ONE), expected, rtol=1e-6)


def test_soft_targets_of_smoothing_and_mixup_are_learned_from_as_they_are() -> None:
    log_p = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    soft = 0.7 * ONE + 0.3 * ONE[::-1]
    np.testing.assert_allclose(loss(soft), -(soft * log_p).sum(axis=1), rtol=1e-6)
    smoothed = ONE * 0.7 + 0.3 / 3
    np.testing.assert_allclose(loss(ONE, label_smoothing=0.3), -(smoothed * log_p).sum(axis=1), rtol=1e-6)


def test_mixed_up_targets_still_sum_to_1() -> None:
    rng = np.random.default_rng(0)
    images, targets = rng.integers(0, 255, (16, 8, 8, 3), np.uint8), np.eye(4, dtype=np.float32)[rng.integers(0, 4, 16)]
    ((_, mixed),) = mixed_up([(images, targets)], 0.4, 0, 0)
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-6)
    assert ((mixed > 0) & (mixed < 1)).any()


def test_training_starts_from_the_frequencies() -> None:
    prior = np.array([0.7, 0.3, 0.0])
    task = single_label(tiny(**LOSS), 3, prior)
    model = build_model(tiny(**LOSS), task)
    logits_model(model).get_layer("logits").kernel.assign(tf.zeros_like(model.get_layer("logits").kernel))
    given = model(np.zeros((2, 16, 16, 3), np.uint8)).numpy()
    np.testing.assert_allclose(given, [[0.7, 0.3, 1e-4]] * 2, atol=1e-4)
    np.testing.assert_allclose(given.sum(axis=1), 1, rtol=1e-6)
    assert single_label(tiny(**LOSS), 3).first_bias is None


def test_held_out_rows_are_judged_by_their_cross_entropy_and_their_most_probable_label() -> None:
    rng = np.random.default_rng(1)
    P = rng.dirichlet(np.ones(5), 200).astype(np.float32)
    label = rng.integers(0, 5, 200)
    task = single_label(tiny(**LOSS), 5)
    Y = np.eye(5, dtype=bool)[label]
    assert task.monitor(Y, P) == pytest.approx(log_loss(label, P, labels=range(5)), rel=1e-5)
    assert (task.label_sets(P) & Y).any(axis=1).mean() == accuracy_score(label, P.argmax(axis=1))
    assert multi_label(tiny(), 5).label_sets is None


def test_a_network_learns_which_of_three_colours_a_picture_has(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 240)
    images = rng.integers(0, 60, (240, 16, 16, 3), np.uint8)
    images[np.arange(240), :, :, label] += 150
    targets = np.eye(3, dtype=np.float32)[label]
    section = tiny(**LOSS, epochs=6, batch_size=24)
    held = (images[200:], targets[200:])
    batches = ArrayBatches(images[:200], targets[:200], 24)
    result = train(
        section, TrainingSection(), batches, held, n_labels=3, prior=targets[:200].mean(axis=0), seed=0,
        work=tmp_path, task="single_label",
    )  # fmt: skip
    assert "holdout_threshold" not in result.history
    given = np.asarray(result.model(images[200:]))
    np.testing.assert_allclose(given.sum(axis=1), 1, rtol=1e-5)
    accuracy = accuracy_score(label[200:], given.argmax(axis=1))
    assert accuracy == pytest.approx(result.history["holdout_samples_f1"].max())
    assert accuracy > 0.9
    save_model(result.model, tmp_path / "m.keras")
    np.testing.assert_array_equal(load_model(tmp_path / "m.keras")(images[200:]), given)
