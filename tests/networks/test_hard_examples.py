"""The hardest images come again, and a kill changes nothing about that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack.networks.hard_examples import hardest
from labelstack.networks.learner import Learner, make_optimizer
from labelstack.networks.tasks import multi_label
from labelstack.params.training import TrainingSection
from networks.test_training import assert_same, interrupted_then_resumed, run
from networks.tiny_training import ArrayBatches, built, draw, tiny


class Noted(ArrayBatches):
    """Batches that write down which rows were to come again."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[list[int] | None] = []

    def epoch(
        self, e: int, again: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        self.asked.append(None if again is None else again.tolist())
        return super().epoch(e, again)


def test_the_hardest_are_those_of_the_largest_mean_loss() -> None:
    rows = np.array([3, 0, 1, 2, 1, 4])
    losses = np.array([0.5, 0.9, 3.0, 0.5, 0.0, 0.1], np.float32)  # the two of row 1: 1.5
    assert hardest(rows, losses, 0.2).tolist() == [1]
    assert hardest(rows, losses, 0.4).tolist() == [0, 1]
    assert hardest(rows, losses, 0.6).tolist() == [0, 1, 2]  # 2 and 3 are equal
    assert hardest(rows, losses, 1).tolist() == [0, 1, 2, 3, 4]
    assert hardest(rows, losses, 0.05).tolist() == []


def test_a_learner_keeps_the_loss_of_each_row_and_learns_the_same() -> None:
    images, targets = draw(8)
    params, weights = tiny(head={"units": [], "dropout": 0.0}), []
    for each in (False, True):
        model = built(params)
        initial = [np.full(w.shape, 0.01, np.float32) for w in model.get_weights()]
        model.set_weights(initial)
        learner = Learner(model, make_optimizer(params, False), multi_label(params, 3).loss, each=each)
        loss = float(learner.step(images, targets, 0.01))
        weights.append(model.get_weights())
        assert learner.row_losses.shape == ((8,) if each else (0,))
    assert learner.row_losses.mean() == pytest.approx(loss, rel=1e-6)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_epoch_takes_the_worst_of_the_last_one_again(training: TrainingSection, tmp_path: Path) -> None:
    images, targets = draw(40)
    targets[[3, 17]] = 1 - targets[[3, 17]]  # wrong labels stay hard
    batches = Noted(images, targets)
    result = run(tiny(epochs=12, hard_examples=0.2), training, batches, None, tmp_path)
    assert batches.asked[0] is None
    assert [len(rows or []) for rows in batches.asked[1:]] == [8] * 11
    again = [row for rows in batches.asked[1:] for row in rows or []]
    assert again.count(3) + again.count(17) > 2 * (2 * 11 * 0.2)
    assert len(result.history) == 12


def test_none_are_asked_for_unless_params_say_so(training: TrainingSection, tmp_path: Path) -> None:
    batches = Noted(*draw(16))
    run(tiny(epochs=3), training, batches, None, tmp_path)
    assert batches.asked == [None] * 3


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.4, "ema": 0.9}], ids=["plain", "mixup+ema"])
def test_resumed_equals_uninterrupted(
    changes: dict[str, Any], holdout: Any, training: TrainingSection, tmp_path: Path
) -> None:
    params = tiny(hard_examples=0.25, **changes)
    whole_batches, broken_batches = Noted(*draw(28)), Noted(*draw(28))
    whole = run(params, training, whole_batches, holdout, tmp_path / "whole")
    broken = interrupted_then_resumed(params, training, broken_batches, holdout, tmp_path / "broken", after=2)
    assert_same(whole, broken)
    assert whole_batches.asked == broken_batches.asked
