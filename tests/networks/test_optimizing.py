"""Steps of the optimizer: rates by group, clipped, of several batches, against updates computed by hand."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from labelstack.networks.depth import layer_groups
from labelstack.networks.heads import head_layers
from labelstack.networks.learner import Learner, make_optimizer
from labelstack.networks.phases import Ways, training_phases
from labelstack.networks.tasks import multi_label
from labelstack.params.models import HeadSection, ModelSection
from labelstack.params.training import TrainingSection
from labelstack.support.errors import UserError
from networks.test_training import assert_same, interrupted_then_resumed, run
from networks.tiny_training import N_LABELS, ArrayBatches, built, draw, tiny

RATE, GRADIENTS = 0.1, [np.array([0.5, -2.0]), np.array([-1.0, 4.0])]


def sgd(value, rate, decay):
    """Nesterov momentum 0.9, decay decoupled."""
    velocity = 0.0
    for gradient in GRADIENTS:
        value = value - value * decay * rate
        velocity = 0.9 * velocity - rate * gradient
        value = value + 0.9 * velocity - rate * gradient
    return value


def adam(value, rate, decay):
    first = second = 0.0
    for t, gradient in enumerate(GRADIENTS, start=1):
        value = value - value * decay * rate
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        value = value - rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * first / (np.sqrt(second) + 1e-7)
    return value


@pytest.mark.parametrize(("name", "by_hand"), [("sgd", sgd), ("adam", adam), ("adamw", adam)])
def test_each_variable_is_updated_at_its_own_rate(name, by_hand):
    factors, start = (0.25, 0.25, 1.0, 0.5), np.array([1.0, -3.0])
    params = tiny(optimizer=name, learning_rate=RATE, weight_decay=0.05)
    optimizer = make_optimizer(params, False, factors=factors)
    variables = [keras.Variable(start, name=f"kernel_{i}", dtype="float32") for i in range(4)]
    optimizer.build(variables)
    for gradient in GRADIENTS:
        optimizer.apply([tf.constant(gradient, tf.float32)] * 4, variables)
    for variable, factor in zip(variables, factors, strict=True):
        np.testing.assert_allclose(variable.numpy(), by_hand(start, RATE * factor, 0.05), rtol=1e-5)


def test_adamw_without_weight_decay_is_adam():
    images, targets = draw(8)
    weights = []
    for optimizer in ("adam", "adamw"):
        keras.utils.set_random_seed(0)
        params = tiny(optimizer=optimizer, head=HeadSection(units=[]))
        learner = Learner(built(params), make_optimizer(params, False), multi_label(params, N_LABELS, None).loss)
        learner.step(images, targets, 0.01)
        weights.append(learner.model.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_factors_of_one_change_no_bit():
    results = []
    for factors in (None, (1.0, 1.0)):
        optimizer = make_optimizer(tiny(optimizer="adamw", weight_decay=0.05), False, factors=factors)
        variables = [keras.Variable([1.0, -3.0], name=f"kernel_{i}") for i in range(2)]
        optimizer.build(variables)
        for gradient in GRADIENTS:
            optimizer.apply([tf.constant(gradient, tf.float32)] * 2, variables)
        results.append([variable.numpy() for variable in variables])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("rates", "train", "expected"),
    [
        (0.5, "all", [0.25, 0.5, 1.0]),
        ([0.1, 0.2, 0.4], "all", [0.1, 0.2, 0.4]),
        ([0.1, 0.2, 0.4], "last_2", [0.2, 0.4]),
        (0.5, "head", [1.0]),
    ],
)
def test_groups_have_the_factors_of_their_places(rates, train, expected):
    options = {"filters": [4, 8, 8], "convolutions": 1}
    params = tiny(options=options, group_rates=rates, phases=[{"epochs": 4, "train": train}])
    model = built(params)
    way = Ways(model, params.group_rates).way(training_phases(params)[0])
    groups = [*layer_groups(model.get_layer("backbone")), head_layers(model)][-len(expected) :]
    found = {id(v): factor for v, factor in zip(way.trained, way.factors, strict=True)}
    for group, factor in zip(groups, expected, strict=True):
        own = [v for layer in group for v in layer.trainable_variables]
        assert own
        assert {found.pop(id(v)) for v in own} == {factor}
    assert not found


def test_other_many_factors_than_groups_are_refused():
    params = tiny().model_copy(update={"group_rates": (0.1, 0.5, 1.0)})  # params.yaml's would be refused before
    with pytest.raises(UserError, match=r"group_rates: names 3 factors, and this network has 2 groups"):
        Ways(built(params), params.group_rates).way(training_phases(params)[0])


def after(params: ModelSection, batches: list[Any], rate: float = 0.05, mixed: bool = False) -> list[np.ndarray]:
    """Weights after one pass over batches."""
    keras.utils.set_random_seed(3)
    model = built(params, mixed_precision=mixed)
    way = Ways(model, params.group_rates).way(training_phases(params)[0])
    learner = Learner(
        model,
        make_optimizer(params, mixed, factors=way.factors),
        multi_label(params, N_LABELS).loss,
        params.ema,
        way=way,
        accumulate=params.accumulate,
    )
    for images, targets in batches:
        learner.step(images, targets, rate)
    learner.finish()
    return [weight.numpy() for weight in model.weights]


def parts(n: int, size: int) -> list[Any]:
    images, targets = draw(n)
    return [(images[at : at + size], targets[at : at + size]) for at in range(0, n, size)]


@pytest.mark.parametrize("changes", [{}, {"clip_norm": 0.01, "group_rates": 0.5, "optimizer": "adam"}], ids=str)
def test_accumulated_batches_are_one_batch_of_their_rows(changes):
    """Of 44 rows in sixes and threes: three steps of 18, 18 and 8 rows, the last of a smaller group and batch."""
    still = {"head": HeadSection(units=[16], dropout=0), "batch_norm": "fixed", "optimizer": "sgd", **changes}
    few = after(tiny(accumulate=3, **still), parts(44, 6))
    whole = after(tiny(**still), parts(44, 18))
    start = after(tiny(**still), [])
    for a, b in zip(few, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert max(np.abs(a - b).max() for a, b in zip(few, start, strict=True)) > 1e-4


def test_the_norm_of_all_gradients_is_clipped():
    """Plain rate 1 after one step: Nesterov's first update is 1.9 times the gradient."""
    still = {"head": HeadSection(units=[], dropout=0), "batch_norm": "fixed", "optimizer": "sgd"}
    start, free = after(tiny(**still), []), after(tiny(**still), parts(8, 8), 1.0)
    norm = np.sqrt(sum(np.square(a - b).sum() for a, b in zip(free, start, strict=True))) / 1.9
    for bound, expected in ((norm / 10, 0.1), (norm * 2, 1.0)):
        clipped = after(tiny(clip_norm=float(bound), **still), parts(8, 8), 1.0)
        for a, b, c in zip(clipped, free, start, strict=True):
            np.testing.assert_allclose(a - c, expected * (b - c), atol=1e-6)


def test_all_of_it_under_mixed_precision_learns_alike():
    still = {"head": HeadSection(units=[16], dropout=0), "batch_norm": "fixed", "optimizer": "sgd"}
    changes = {"accumulate": 2, "clip_norm": 0.05, "group_rates": 0.5}
    single, half = (after(tiny(**still, **changes), parts(32, 8), mixed=mixed) for mixed in (False, True))
    start = after(tiny(**still), [])
    moved = np.concatenate([(a - b).ravel() for a, b in zip(single, start, strict=True)])
    halved = np.concatenate([(a - b).ravel() for a, b in zip(half, start, strict=True)])
    assert np.abs(moved - halved).max() < 0.05 * np.abs(moved).max()


def test_all_of_it_outlives_a_kill(batches, holdout, training, tmp_path):
    params = tiny(
        group_rates=0.5, clip_norm=0.1, accumulate=3, ema=0.9, mixup=0.3, hard_examples=0.2, batch_norm="frozen",
        schedule={"kind": "one_cycle"}, phases=[{"epochs": 2, "train": "head"}, {"epochs": 3, "train": "all"}],
        epochs=5, loss={"kind": "phases", "of": [{"loss": "bce", "epochs": 3}, {"loss": "focal"}]},
    )  # fmt: skip
    images, targets = draw(28)
    targets[::3, 0] = np.nan
    masked = ArrayBatches(images, targets)
    whole = run(params, training, masked, holdout, tmp_path / "whole", masked=True)
    assert np.isfinite(whole.history["loss"]).all()
    for kill in (2, 4):
        broken = tmp_path / f"broken-{kill}"
        assert_same(whole, interrupted_then_resumed(params, training, masked, holdout, broken, kill, masked=True))


def test_reload_goes_back_to_the_best_epoch_when_the_rate_falls(batches, holdout, tmp_path):
    """The first rate spoils the network; its first epoch's weights come back with a rate that changes nothing."""
    schedule = {"kind": "plateau", "patience": 2, "factor": 1e-6, "minimum": 0, "reload": True}
    params = tiny(schedule=schedule, epochs=8, learning_rate=0.5, optimizer="sgd", batch_norm="fixed")
    training = TrainingSection(patience=None)
    result = run(params, training, batches, holdout, tmp_path / "whole")
    history = result.history
    falls = history["learning_rate"].to_numpy() < 0.4
    first = int(np.argmax(falls))
    assert falls.any()
    best = history["holdout_samples_f1"][:first].to_numpy().argmax()
    assert best < first - 1
    assert history["holdout_loss"][first] == pytest.approx(history["holdout_loss"][best], abs=1e-4)
    assert history["holdout_loss"][first] != pytest.approx(history["holdout_loss"][first - 1], abs=1e-3)
    for kill in (first, first + 1):
        broken = tmp_path / f"broken-{kill}"
        assert_same(result, interrupted_then_resumed(params, training, batches, holdout, broken, kill))
    with pytest.raises(UserError, match=r"set training\.holdout above 0"):
        run(params, training, batches, None, tmp_path / "none")
