"""Losses with options, mixes, phases, and labels that are not known, against cases counted by hand and NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from labelstack.networks.schedules import stopped
from labelstack.networks.tasks import multi_label, single_label
from labelstack.networks.training import train
from labelstack.params.training import TrainingSection
from networks.test_training import assert_same, interrupted_then_resumed, run
from networks.tiny_training import N_LABELS, ArrayBatches, draw, tiny

RNG = np.random.default_rng(3)
LOGITS = RNG.normal(0, 2, (5, 4)).astype(np.float32)
HARD = (RNG.random((5, 4)) < 0.5).astype(np.float32)
SOFT = RNG.random((5, 4)).astype(np.float32)
KNOWN = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]], np.float32)
P = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
F2 = {"kind": "f_beta", "beta": 2}
BCE_F2 = {"kind": "mix", "of": [{"loss": "bce"}, {"loss": F2, "weight": 0.3}]}
PHASES = {"kind": "phases", "of": [{"loss": "bce", "epochs": 2}, {"loss": F2}]}
MULTI: list[Any] = [
    "bce",
    "balanced_bce",
    "focal",
    {"kind": "focal", "gamma": 0.5, "alpha": 0.25},
    {"kind": "focal", "gamma": 0},
    "f_beta",
    F2,
    "forgiving",
    {"kind": "forgiving", "weight": 3},
    BCE_F2,
]
FREQUENCY = np.array([0.5, 0.2, 0.1, 0.7])


def loss_of(loss: Any, targets: Any, logits: Any = LOGITS, known: Any = None, **params: Any) -> Any:
    return multi_label(tiny(loss=loss, **params), 4, FREQUENCY).loss(targets, logits, known).numpy()


def ce(y: Any, x: Any) -> Any:
    """Binary cross-entropy of a logit, float64."""
    x = np.asarray(x, np.float64)
    return np.logaddexp(0, x) - x * y


def f_of_probabilities(y: Any, p: Any, beta: float) -> Any:
    """As published: from precision and recall."""
    precision, recall = (y * p).sum(1) / (p.sum(1) + 1e-6), (y * p).sum(1) / (y.sum(1) + 1e-6)
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall + 1e-6)


def test_f_beta_of_a_case_counted_by_hand() -> None:
    # p = ½, ½: Σyp = ½, Σp = 1, Σy = 1; F1 = 1/2, F2 = 5 · ½ / (4 + 1) = 1/2; with p = ½, ½, ½ F2 = 2.5 / 5.5
    zero = np.zeros((1, 2), np.float32)
    task = multi_label(tiny(loss=F2), 2)
    assert task.loss(np.array([[1.0, 0.0]]), zero, None).numpy() == pytest.approx([0.5], rel=1e-5)
    three = multi_label(tiny(loss=F2), 3).loss(np.array([[1.0, 0.0, 0.0]]), np.zeros((1, 3), np.float32), None)
    assert three.numpy() == pytest.approx([1 - 2.5 / 5.5], rel=1e-5)
    perfect = task.loss(np.array([[1.0, 0.0]]), np.array([[30.0, -30.0]], np.float32), None)
    assert perfect.numpy() == pytest.approx([0], abs=1e-5)
    assert task.loss(zero, zero, None).numpy().tolist() == [1.0]  # no label


@pytest.mark.parametrize("y", [HARD, SOFT])
@pytest.mark.parametrize("beta", [0.5, 1, 2])
def test_f_beta_is_that_of_precision_and_recall(y: Any, beta: float) -> None:
    expected = 1 - f_of_probabilities(y, P, beta)
    np.testing.assert_allclose(loss_of({"kind": "f_beta", "beta": beta}, y), expected, rtol=1e-4, atol=1e-5)


def test_forgiving_weighs_positives_and_adds_a_constant_for_negatives() -> None:
    by_hand = np.where(HARD > 0, 4 * ce(HARD, LOGITS), ce(HARD, LOGITS) + 3 * np.log(2)).mean(1)
    np.testing.assert_allclose(loss_of({"kind": "forgiving", "weight": 3}, HARD), by_hand, rtol=1e-5)
    soft = (ce(SOFT, LOGITS) + ce(SOFT, LOGITS * SOFT)).mean(1)
    np.testing.assert_allclose(loss_of("forgiving", SOFT), soft, rtol=1e-5)
    np.testing.assert_allclose(loss_of({"kind": "forgiving", "weight": 0}, SOFT), loss_of("bce", SOFT), rtol=1e-6)


@pytest.mark.parametrize(("gamma", "alpha"), [(0, None), (0.5, 0.25), (1, 0.75), (3, None)])
def test_focal_takes_gamma_and_alpha(gamma: float, alpha: float | None) -> None:
    for y in (HARD, SOFT):
        weight = 1 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
        expected = (weight * np.abs(y - P) ** gamma * ce(y, LOGITS)).mean(1)
        found = loss_of({"kind": "focal", "gamma": gamma, "alpha": alpha}, y)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_a_mix_is_the_weighted_sum() -> None:
    np.testing.assert_allclose(loss_of(BCE_F2, SOFT), loss_of("bce", SOFT) + 0.3 * loss_of(F2, SOFT), rtol=1e-6)


@pytest.mark.parametrize("loss", MULTI, ids=str)
@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_smoothing_is_of_the_targets_whatever_the_loss(loss: Any, smoothing: float) -> None:
    smoothed = HARD * (1 - smoothing) + smoothing / 2
    np.testing.assert_allclose(
        loss_of(loss, HARD, label_smoothing=smoothing), loss_of(loss, smoothed), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("loss", MULTI, ids=str)
@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_unknown_labels_count_nothing(loss: Any, smoothing: float) -> None:
    def masked(logits: Any, targets: Any) -> tuple[Any, Any]:
        variable = tf.Variable(logits)
        with tf.GradientTape() as tape:
            values = multi_label(tiny(loss=loss, label_smoothing=smoothing), 4, FREQUENCY).loss(
                targets, variable, KNOWN
            )
        return values.numpy(), tape.gradient(values, variable).numpy()

    values, gradient = masked(LOGITS, SOFT)
    assert values.dtype == np.float32
    assert values[3] == 0
    assert (gradient[KNOWN == 0] == 0).all()
    assert (gradient[KNOWN > 0] != 0).all()
    others = np.where(KNOWN > 0, LOGITS, 7).astype(np.float32), np.where(KNOWN > 0, SOFT, 0).astype(np.float32)
    np.testing.assert_array_equal(masked(*others)[0], values)
    for row in (0, 1, 2, 4):  # as if there were no other labels
        of = KNOWN[row] > 0
        alone = multi_label(tiny(loss=loss, label_smoothing=smoothing), int(of.sum()), FREQUENCY[of])
        alone_loss = alone.loss(SOFT[row : row + 1, of], LOGITS[row : row + 1, of], None)
        np.testing.assert_allclose(values[row : row + 1], alone_loss, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0, 0.3])
def test_unknown_labels_are_left_out_of_the_softmax(smoothing: float) -> None:
    targets = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]], np.float32)
    section = tiny(loss="cross_entropy", label_smoothing=smoothing)
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        values = single_label(section, 4).loss(targets, logits, KNOWN)
    gradient = tape.gradient(values, logits).numpy()
    assert values.numpy()[2:4].tolist() == [0, 0]  # one label alone is certain, and none says nothing
    assert (gradient[KNOWN == 0] == 0).all()
    for row in (0, 1, 4):
        of = KNOWN[row] > 0
        alone = single_label(section, int(of.sum())).loss(targets[row : row + 1, of], LOGITS[row : row + 1, of], None)
        np.testing.assert_allclose(values[row : row + 1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", MULTI, ids=str)
def test_gradients_are_those_of_small_steps(loss: Any) -> None:
    logits = tf.Variable(LOGITS)
    task = multi_label(tiny(loss=loss), 4, FREQUENCY)
    with tf.GradientTape() as tape:
        values = tf.reduce_sum(task.loss(SOFT, logits, None))
    gradient, step = tape.gradient(values, logits).numpy(), 1e-2
    for at in ((0, 0), (2, 3), (4, 1)):
        moved = np.zeros_like(LOGITS)
        moved[at] = step
        up, down = (np.float64(task.loss(SOFT, LOGITS + s * moved, None)).sum() for s in (1, -1))
        assert gradient[at] == pytest.approx((up - down) / (2 * step), rel=0.03, abs=3e-4)


@pytest.mark.parametrize("loss", MULTI, ids=str)
def test_sure_answers_keep_losses_and_gradients_finite(loss: Any) -> None:
    logits = tf.Variable([[200.0, -200.0, 200.0, -200.0]])
    with tf.GradientTape() as tape:
        values = multi_label(tiny(loss=loss), 4, FREQUENCY).loss(np.array([[0.0, 1.0, 1.0, 0.0]]), logits, None)
    assert np.isfinite(values).all()
    assert np.isfinite(tape.gradient(values, logits)).all()


def test_phases_come_one_after_another() -> None:
    task = multi_label(tiny(loss=PHASES, epochs=4), 4, FREQUENCY)
    for epoch, loss in enumerate(["bce", "bce", F2, F2]):
        np.testing.assert_array_equal(task.loss_of(epoch)(SOFT, LOGITS, None), loss_of(loss, SOFT))
    assert task.settled == 2
    assert multi_label(tiny(), 4).settled == 0


def test_patience_begins_with_the_last_phase() -> None:
    history = [{"loss": 1.0, "holdout_samples_f1": score} for score in (0.5, 0.4, 0.4, 0.4, 0.4)]
    assert [stopped(history[:n], 2, 2) for n in range(6)] == [False] * 4 + [True] * 2
    assert [stopped(history[:n], 2) for n in range(6)] == [False] * 3 + [True] * 3


def test_phases_train_as_their_losses_do_and_outlive_a_kill(
    batches: ArrayBatches, holdout: Any, training: TrainingSection, tmp_path: Path
) -> None:
    whole = run(tiny(loss=PHASES), training, batches, holdout, tmp_path / "whole")
    plain = run(tiny(), training, batches, holdout, tmp_path / "plain")
    assert whole.history["loss"][:2].equals(plain.history["loss"][:2])
    assert (whole.history["loss"][2:] != plain.history["loss"][2:]).all()
    for after in (1, 2, 3):
        resumed = interrupted_then_resumed(
            tiny(loss=PHASES), training, batches, holdout, tmp_path / f"killed after {after}", after
        )
        assert_same(whole, resumed)


def test_targets_that_are_not_known_teach_nothing(training: TrainingSection, tmp_path: Path) -> None:
    images, targets = draw(16)
    half = targets.copy()
    half[:, 1] = np.nan
    results = []
    for known, name in ((half, "a"), (np.where(np.isnan(half), np.nan, half), "b")):
        result = train(
            tiny(epochs=2, head={"units": [], "dropout": 0.0}), training, ArrayBatches(images, known), None,
            n_labels=N_LABELS, prior=None, seed=1, work=tmp_path / name, masked=True,
        )  # fmt: skip
        results.append(result)
    assert_same(*results)
    kernel, bias = results[0].model.get_layer("logits").get_weights()
    assert np.isfinite(kernel).all()
    assert bias[1] == 0  # was never moved
    assert (bias[[0, 2]] != 0).all()
    assert np.isfinite(results[0].history["loss"]).all()
