"""A joint network learns every group from the rows that know it, judges them within it, and resumes bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack.networks.soft_targets import known_targets
from labelstack.params.training import TrainingSection
from networks.test_training import assert_same, interrupted_then_resumed, run
from networks.tiny_training import SIZE, ArrayBatches, tiny

GROUPS = ["red", "red", "green", "green", "green"]
GROUP = np.array(GROUPS)
MORE: dict[str, Any] = {"n_labels": 5, "groups": GROUPS, "masked": True, "task": "single_label"}


def draw_groups(n: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.str_], NDArray[Any]]:
    """Images with more or less red and green, truth of one of both, the group that is known, and both truths."""
    rng = np.random.default_rng(seed)
    red, green = rng.integers(0, 2, n), rng.integers(0, 3, n)
    images = rng.integers(0, 40, (n, SIZE, SIZE, 3))
    images[..., 0] += (red * 200)[:, None, None]
    images[..., 1] += (green * 100)[:, None, None]
    of_red = rng.random(n) < 0.5
    true = np.where(of_red, red, 2 + green)
    return (
        images.astype(np.uint8),
        np.eye(5, dtype=bool)[true],
        np.where(of_red, "red", "green"),
        np.stack([red, green]),
    )


def batches_of(n: int) -> tuple[ArrayBatches, NDArray[np.floating[Any]]]:
    images, Y, known, _ = draw_groups(n)
    targets = known_targets(Y.astype(np.float32), known, GROUP)
    return ArrayBatches(images, targets), Y.mean(axis=0)


def test_every_group_is_learned_from_the_rows_that_know_it(training: TrainingSection, tmp_path: Path) -> None:
    batches, prior = batches_of(96)
    images, Y, _, truth = draw_groups(60, seed=1)
    params = tiny(loss="cross_entropy", epochs=12, head={"units": [16], "dropout": 0.0})
    result = run(params, training, batches, (images, Y), tmp_path, **{**MORE, "prior": prior})
    answers = result.model.predict(images, verbose=0)
    assert answers[:, :2].sum(axis=1) == pytest.approx(0.5)
    right = [answers[:, :2].argmax(axis=1) == truth[0], answers[:, 2:].argmax(axis=1) == truth[1]]
    assert np.mean(right[0]) > 0.9
    assert np.mean(right[1]) > 0.9
    last = result.history.iloc[result.best_epoch - 1]
    of_group = np.where(Y[:, :2].any(axis=1), right[0], right[1])
    assert last["holdout_samples_f1"] == pytest.approx(of_group.mean())
    assert last["holdout_loss"] == pytest.approx(-np.log(answers[Y] * 2).mean(), rel=1e-4)


def test_resumed_equals_uninterrupted_and_other_groups_do_not_resume(training: TrainingSection, tmp_path: Path) -> None:
    batches, prior = batches_of(28)
    images, Y, _, _ = draw_groups(20, seed=1)
    more, params = {**MORE, "prior": prior}, tiny(loss="cross_entropy", mixup=0.3)
    whole = run(params, training, batches, (images, Y), tmp_path / "whole", **more)
    broken = interrupted_then_resumed(params, training, batches, (images, Y), tmp_path / "broken", after=2, **more)
    assert_same(whole, broken)
    epochs: list[int] = []
    more["groups"] = ["one", "one", "one", "two", "two"]
    run(
        params,
        training,
        batches,
        (images, Y),
        tmp_path / "whole",
        on_epoch=lambda epoch, _: epochs.append(epoch),
        **more,
    )
    assert epochs == [1, 2, 3, 4]
