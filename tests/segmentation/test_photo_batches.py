"""Photos and class maps move together; momentum and rates of one cycle; the optimizer against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import labelstack.networks  # noqa: F401 - quiets TensorFlow before it is imported
from labelstack.networks.schedules import learning_rate
from labelstack.params.augment import AugmentSection
from labelstack.params.schedule import ScheduleSection
from labelstack.segmentation.cycled_adamw import CycledAdamW, momentum_at
from labelstack.segmentation.photo_batches import OFF, PhotoBatches
from segmentation.squares import COLOURS, drawn

# colours stay, so the class can be read off the photo
MOVES = AugmentSection(
    rotate=(-30, 30), scale=(0.8, 1.3), shift=(-0.1, 0.1), shear=(-10, 10), crop=(0, 0.1), chance=0.9,
    hue_and_saturation=(0, 0), gaussian_blur=(0, 0), contrast=(1, 1), sharpen=(0, 0), emboss=(0, 0),
)  # fmt: skip
FASTAI = ScheduleSection(kind="one_cycle", rise=0.9, end_divisor=250_000)


def read_off(images: np.ndarray) -> np.ndarray:
    return np.square(images[..., None, :] - COLOURS.astype(float)).sum(-1).argmin(-1)


@pytest.mark.parametrize("augment", [OFF, MOVES, AugmentSection(flip=1, crop=(0.1, 0.2), chance=1, rotate=(0, 0))])
def test_a_class_map_moves_as_its_photo(augment: AugmentSection) -> None:
    images, maps = drawn(12, side=50)
    for pixels, classes in PhotoBatches(images, maps, (64, 48), 5, seed=3, augment=augment).epoch(0):
        assert pixels.shape == (*classes.shape, 3)
        assert (read_off(pixels) == classes).mean() > 0.97


def test_an_epoch_is_the_same_whenever_asked_and_another_than_the_next() -> None:
    batches = PhotoBatches(*drawn(7), (32, 32), 3, seed=3, augment=MOVES)
    first, again, second = (list(batches.epoch(number)) for number in (0, 0, 1))
    assert [len(images) for images, _ in first] == [3, 3, 1]
    assert batches.steps_per_epoch == 3
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(first[0][0], second[0][0])


def test_what_is_not_moved_keeps_its_pixels_and_classes() -> None:
    images, maps = drawn(4, side=40)
    batches = PhotoBatches(images, maps, (40, 48), 4, seed=0)
    pixels, classes = next(batches.epoch(0))
    assert sorted(image.tobytes() for image in pixels) == sorted(image.tobytes() for image in images)
    assert sorted(map_.tobytes() for map_ in classes) == sorted(map_.astype(np.int32).tobytes() for map_ in maps)


@pytest.mark.parametrize(
    ("done", "rate", "momentum"),
    [
        (0, 1 / 25, 0.95),
        (0.45, (1 / 25 + 1) / 2, 0.9),
        (0.3, 1 / 25 + (1 - 1 / 25) / 4, 0.925),  # a third of the rise: (1 − cos 60°) / 2
        (0.9, 1, 0.85),
        (0.95, (1 + 1 / 250_000) / 2, 0.9),
        (1, 1 / 250_000, 0.95),
    ],
)
def test_one_cycle_is_fastais(done: float, rate: float, momentum: float) -> None:
    assert learning_rate(FASTAI, 1.0, 1, done, []) == pytest.approx(rate)
    assert momentum_at(FASTAI, (0.95, 0.85), done) == pytest.approx(momentum)


def test_without_cycles_momentum_stays_high() -> None:
    assert momentum_at(ScheduleSection(kind="cosine"), (0.9, 0.8), 0.5) == 0.9


def test_steps_are_pytorchs_with_another_momentum_each_and_decay_beside_the_gradient() -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=5), rng.normal(size=(4, 5))
    variables = [keras.Variable(start, name=name, dtype="float32") for name in ("kernel", "bias")]
    optimizer = CycledAdamW((0.1, 1.0), weight_decay=0.01)
    optimizer.build(variables)
    expected, means, squares = [start.copy(), start.copy()], np.zeros((2, 5)), np.zeros((2, 5))
    for step, (gradient, beta, rate) in enumerate(
        zip(gradients, (0.95, 0.9, 0.85, 0.9), (0.01, 0.02, 0.03, 0.01), strict=True), start=1
    ):
        optimizer.set_momentum(beta)
        optimizer.learning_rate.assign(rate)
        optimizer.apply([keras.ops.cast(gradient, "float32")] * 2, variables)
        for place, (factor, decay) in enumerate([(0.1, 0.01), (1.0, 0)]):
            own = rate * factor
            expected[place] *= 1 - own * decay
            means[place] = beta * means[place] + (1 - beta) * gradient
            squares[place] = 0.99 * squares[place] + 0.01 * gradient**2
            corrected = np.sqrt(squares[place]) / np.sqrt(1 - 0.99**step) + 1e-8
            expected[place] -= own * means[place] / (1 - beta**step) / corrected
    for variable, wanted in zip(variables, expected, strict=True):
        assert np.asarray(variable) == pytest.approx(wanted, abs=1e-5)
