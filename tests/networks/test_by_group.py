"""A softmax for each label group: its loss, its gradient, its answers, its files, and soft targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from scipy.special import log_softmax

from labelstack.networks.group_softmax import GroupSoftmax, group_sizes
from labelstack.networks.inference import finish_of, load_model, save_model
from labelstack.networks.soft_targets import known_targets, soft_targets
from labelstack.networks.tasks import Task, by_group, single_label
from labelstack.params.models import ModelSection

GROUPS = ["a", "a", "a", "b", "b", "c", "c", "c", "c"]
GROUP = np.array(GROUPS)
PARAMS = ModelSection(backbone="small_cnn", loss="cross_entropy")


def rows(n: int = 12, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.str_], NDArray[np.float32]]:
    """True labels, the group that each row knows, and logits."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, len(GROUPS), n)
    Y = np.zeros((n, len(GROUPS)), bool)
    Y[np.arange(n), true] = True
    return Y, GROUP[true], rng.normal(0, 3, (n, len(GROUPS))).astype(np.float32)


def losses(task: Task, targets: NDArray[Any], logits: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Losses of rows and the gradient of their sum, as the learner asks for them: NaN is not known."""
    known = (~np.isnan(targets)).astype(np.float32)
    asked = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(asked)
        found = task.loss(tf.constant(np.nan_to_num(targets)), asked, None if known.all() else tf.constant(known))
        total = tf.reduce_sum(found)
    return found.numpy(), tape.gradient(total, asked).numpy()


@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_joint_and_separate_networks_have_the_same_loss_and_gradient(smoothing: float) -> None:
    params = PARAMS.model_copy(update={"label_smoothing": smoothing})
    Y, known, logits = rows(40)
    joint, gradient = losses(by_group(params, GROUPS), known_targets(Y.astype(np.float32), known, GROUP), logits)
    for name in "abc":
        mine = np.ix_(known == name, name == GROUP)
        alone = single_label(params, int((name == GROUP).sum()))
        own, own_gradient = losses(alone, Y[mine].astype(np.float32), logits[mine])
        np.testing.assert_allclose(joint[known == name], own, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gradient[mine], own_gradient, rtol=1e-4, atol=1e-6)


def test_groups_that_a_row_does_not_know_get_no_gradient() -> None:
    Y, known, logits = rows(40)
    targets = known_targets(Y.astype(np.float32), known, GROUP)
    found, gradient = losses(by_group(PARAMS, GROUPS), targets, logits)
    unknown = known[:, None] != GROUP[None, :]
    assert (gradient[unknown] == 0).all()
    assert (np.abs(gradient[~unknown]) > 0).mean() > 0.9
    logits[unknown] = 77
    np.testing.assert_array_equal(losses(by_group(PARAMS, GROUPS), targets, logits)[0], found)


def test_a_row_that_knows_nothing_costs_nothing() -> None:
    found, gradient = losses(by_group(PARAMS, GROUPS), np.full((2, 9), np.nan, np.float32), rows(2)[2])
    assert found.tolist() == [0, 0]
    assert (gradient == 0).all()


def test_soft_targets_weigh_the_cross_entropies_of_their_labels() -> None:
    """Also where they sum to 0.99, as the published table does: Σ w·CE, whose gradient is softmax·Σw − w."""
    Y, maybe = np.zeros((1, 9), bool), np.zeros((1, 9), bool)
    Y[0, 5], maybe[0, 6:] = True, True
    logits = rows(1)[2]
    targets = known_targets(soft_targets(Y, maybe, "published"), np.array(["c"]), GROUP)
    found, gradient = losses(by_group(PARAMS, GROUPS), targets, logits)
    weights, log_p = np.array([0.6, 0.13, 0.13, 0.13]), log_softmax(logits[0, 5:].astype(float))
    assert found == pytest.approx([-(weights * log_p).sum()], rel=1e-5)
    np.testing.assert_allclose(gradient[0, 5:], np.exp(log_p) * 0.99 - weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("maybe", "published", "sum_to_one"),
    [
        ([], [1], [1]),
        ([1], [0.8, 0.2], [0.8, 0.2]),
        ([1, 2], [0.7, 0.15, 0.15], [0.7, 0.15, 0.15]),
        ([1, 2, 3], [0.6, 0.13, 0.13, 0.13], [0.7, 0.1, 0.1, 0.1]),
        ([1, 2, 3, 4], [0.6, 0.13, 0.13, 0.13, 0], [0.6, 0.1, 0.1, 0.1, 0.1]),
        ([1, 2, 3, 4, 5], [0.6, 0.13, 0.13, 0.13, 0, 0], [0.6, 0.08, 0.08, 0.08, 0.08, 0.08]),
    ],
)
def test_the_tables_of_soft_targets(maybe: list[int], published: list[float], sum_to_one: list[float]) -> None:
    Y, may = np.zeros((2, 7), bool), np.zeros((2, 7), bool)
    Y[0, 0], may[0, maybe] = True, True
    Y[1, 6], may[1, [place - 1 for place in maybe]] = True, True  # what is true stands last
    for table, wanted in (("published", published), ("sum_to_one", sum_to_one), ("none", [1, *[0] * len(maybe)])):
        found = soft_targets(Y, may, table)
        rest = [0] * (7 - len(wanted))
        np.testing.assert_allclose(found[0], [*wanted, *rest], atol=1e-7)
        np.testing.assert_allclose(found[1], [*wanted[1:], *rest, wanted[0]], atol=1e-7)
        assert found.dtype == np.float32


def test_answers_are_a_softmax_of_each_group_over_their_number() -> None:
    logits = rows(5)[2]
    activation = GroupSoftmax([3, 2, 4])
    found = np.asarray(activation(tf.constant(logits)))
    for places in (slice(0, 3), slice(3, 5), slice(5, 9)):
        expected = np.exp(log_softmax(logits[:, places].astype(float), axis=1)) / 3
        np.testing.assert_allclose(found[:, places], expected, rtol=1e-5)
    np.testing.assert_allclose(activation.of_arrays(logits), found, rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(activation.of_arrays(logits * 1e4)).all()


def test_a_saved_network_answers_as_before(tmp_path: Path) -> None:
    image = keras.Input((4,), name="image")
    logits = keras.layers.Dense(9, name="logits")(image)
    answer = keras.layers.Activation(GroupSoftmax([3, 2, 4]), dtype="float32", name="probability")(logits)
    model = keras.Model(image, answer)
    save_model(model, tmp_path / "model.keras")
    again, x = load_model(tmp_path / "model.keras"), np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(again(x), model(x))
    finish = finish_of(again, "logit")
    assert finish is not None
    raw = keras.Model(image, logits)(x).numpy()
    np.testing.assert_allclose(finish(raw.astype(float)), model(x), rtol=1e-5)


def test_the_first_answer_is_the_share_of_the_group() -> None:
    prior = np.array([0.1, 0.2, 0.1, 0.3, 0.0, 0, 0, 0, 0])
    task = by_group(PARAMS, GROUPS, prior)
    assert task.first_bias is not None
    first = GroupSoftmax([3, 2, 4]).of_arrays(task.first_bias[None])[0] * 3
    np.testing.assert_allclose(first, [0.25, 0.5, 0.25, 1, 0, 0.25, 0.25, 0.25, 0.25], atol=2e-4)


def test_held_out_rows_are_judged_within_their_group() -> None:
    task = by_group(PARAMS, GROUPS)
    assert task.within is not None
    assert task.label_sets is not None
    Y = np.eye(9, dtype=bool)[[1, 4]]
    P = np.array([[0.1, 0.2, 1 / 3 - 0.3, 0.01, 1 / 3 - 0.01, 0, 0, 0, 1 / 3]] * 2, np.float32)
    seen = task.within(Y, P)
    np.testing.assert_allclose(seen[0], [0.3, 0.6, 0.1, 0, 0, 0, 0, 0, 0], atol=1e-6)
    assert (task.label_sets(seen) == Y).all()
    assert task.monitor(Y, seen) == pytest.approx(-(np.log(0.6) + np.log(0.97)) / 2, rel=1e-5)


def test_labels_of_a_group_must_stand_together() -> None:
    assert group_sizes(GROUPS) == [3, 2, 4]
    with pytest.raises(ValueError, match="must stand one after another"):
        group_sizes(["a", "b", "a"])
