"""Mixup and reading ahead."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from labelstack.networks.feeding import ahead, mixed_up
from networks.tiny_training import draw

IMAGES, TARGETS = draw(12)


def test_mixup_mixes_images_and_targets_alike():
    pixels = np.zeros((6, 2, 2, 3), np.uint8)
    pixels += (np.arange(6, dtype=np.uint8) * 50)[:, None, None, None]
    targets = np.eye(6, dtype=np.float32)
    ((mixed, soft),) = mixed_up([(pixels, targets)], 0.4, seed=1, epoch=0)
    assert mixed.dtype == np.uint8
    assert soft.dtype == np.float32
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixed[:, 0, 0, 0], soft @ (np.arange(6) * 50), atol=0.51)
    assert (soft.argmax(1) == np.arange(6)).all()
    assert (soft.max(1) < 1).any()


def test_mixup_depends_on_seed_epoch_and_step_only():
    def draws(seed: int, epoch: int):
        return [y for _, y in mixed_up([(IMAGES, TARGETS)] * 2, 0.4, seed, epoch)]

    first = draws(1, 0)
    assert np.array_equal(first, draws(1, 0))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, draws(1, 1))
    assert not np.array_equal(first, draws(2, 0))


def test_mixup_of_a_batch_has_one_share_and_one_distance():
    pixels = np.zeros((6, 2, 2, 3), np.uint8) + (np.arange(6, dtype=np.uint8) * 50)[:, None, None, None]
    targets, shares, distances = np.eye(6, dtype=np.float32), [], set()
    for mixed, soft in mixed_up([(pixels, targets)] * 30, 0.4, seed=1, epoch=0, per="batch"):
        own = np.diag(soft)
        assert (own == own[0]).all()
        np.testing.assert_allclose(mixed[:, 0, 0, 0], soft @ (np.arange(6) * 50), atol=0.51)
        others = (soft - np.diag(own)).argmax(1)
        away = (others - np.arange(6)) % 6
        assert (away == away[0]).all()
        shares.append(own[0])
        distances.add(int(away[0]))
    assert min(shares) < 0.2 < 0.8 < max(shares)
    assert distances == {1, 2, 3, 4, 5}
    ((alone, one),) = mixed_up([(pixels[:1], targets[:1])], 0.4, seed=1, epoch=0, per="batch")
    assert (alone == pixels[:1]).all()
    np.testing.assert_allclose(one, targets[:1], rtol=1e-6)


@pytest.mark.parametrize("per", ["image", "batch"])
def test_cutmix_shows_a_box_of_another_image_and_mixes_targets_by_area(per):
    pixels = np.zeros((8, 10, 16, 3), np.uint8) + (np.arange(8, dtype=np.uint8) * 30)[:, None, None, None]
    targets, seen = np.eye(8, dtype=np.float32), []
    for mixed, soft in mixed_up([(pixels, targets)] * 20, 0, seed=1, epoch=0, per=per, cutmix=1.0):
        assert mixed.dtype == np.uint8
        assert soft.dtype == np.float32
        np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-6)
        boxes = []
        for i, (image, target) in enumerate(zip(mixed[..., 0] // 30, soft, strict=True)):
            for label in np.unique(image):
                assert target[label] == pytest.approx((image == label).mean(), abs=1e-6)
            foreign = image != i
            if foreign.any():
                rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
                assert foreign.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # a full box
                assert len(np.unique(image[foreign])) == 1
                boxes.append((rows[0], rows[-1], columns[0], columns[-1]))
        seen += boxes
        assert per == "image" or len(set(boxes)) <= 1
    assert len(set(seen)) > 10


def test_with_both_a_batch_gets_one_of_them_and_mixups_is_as_without():
    alone = [y for _, y in mixed_up([(IMAGES, TARGETS)] * 40, 0.4, 1, 0)]
    cut = [y for _, y in mixed_up([(IMAGES, TARGETS)] * 40, 0, 1, 0, cutmix=1.0)]
    both = [y for _, y in mixed_up([(IMAGES, TARGETS)] * 40, 0.4, 1, 0, cutmix=1.0)]
    by_mixup = [np.array_equal(a, b) for a, b in zip(alone, both, strict=True)]
    by_cutmix = [np.array_equal(a, b) for a, b in zip(cut, both, strict=True)]
    assert 8 < sum(by_mixup) < 32
    assert [not taken for taken in by_mixup] == by_cutmix


def test_what_one_of_two_does_not_know_is_not_known_of_both():
    targets = TARGETS.copy()
    targets[3, 1] = np.nan
    for options in ({"alpha": 0.4}, {"alpha": 0, "cutmix": 1.0}):
        ((_, mixed),) = mixed_up([(IMAGES, targets)], seed=1, epoch=0, **options)
        unknown = np.isnan(mixed)
        assert unknown[3, 1]
        assert unknown.sum() == unknown[:, 1].sum() <= 2


def test_mixup_as_it_always_was():
    ((mixed, soft),) = mixed_up([(IMAGES, TARGETS)], 0.4, seed=1, epoch=2)
    rng = np.random.default_rng([1, 2, 0])
    share = rng.beta(0.4, 0.4, size=12).astype(np.float32)
    share, other = np.maximum(share, 1 - share), rng.permutation(12)
    pixels = share[:, None, None, None]
    assert np.array_equal(mixed, np.rint(pixels * IMAGES + (1 - pixels) * IMAGES[other]).astype(np.uint8))
    assert np.array_equal(soft, share[:, None] * TARGETS + (1 - share[:, None]) * TARGETS[other])


def test_ahead_keeps_order_and_reads_ahead():
    made = []

    def numbers():
        for i in range(20):
            made.append(i)
            yield i

    items = ahead(numbers(), depth=4)
    assert next(items) == 0
    deadline = time.monotonic() + 600
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 5 <= len(made) <= 6
    assert list(items) == list(range(1, 20))


def test_ahead_hands_errors_on():
    def broken():
        yield 1
        raise OSError("disk")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(OSError, match="disk"):
        next(items)


def test_ahead_ends_its_thread_when_the_reader_stops():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    items = ahead(endless())
    next(items)
    items.close()
    assert closed.wait(600)
    assert not [thread for thread in threading.enumerate() if thread.name == "batches-ahead"]
