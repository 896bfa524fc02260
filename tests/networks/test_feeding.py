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
