"""Batches on their way to the network: mixup, and preparing the next while the network is busy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]

_END = object()


class EpochBatches(Protocol):
    """Training data in batches, a pass at a time."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""

    def epoch(self, e: int) -> Iterator[Batch]:
        """Batches (uint8 [b, S, S, 3], float32 [b, n_labels]) of epoch ``e`` (from 0), the same whenever asked."""


def mixed_up(batches: Iterable[Batch], alpha: float, seed: int, epoch: int) -> Iterator[Batch]:
    """Mixup (Zhang et al. 2018) within each batch: image and targets become λ·own + (1 − λ)·another's.

    Each image draws λ from Beta(alpha, alpha), the larger side for itself. Depends only on (batches, seed, epoch).
    Pixels are rounded to uint8 again.
    """
    for step, (images, targets) in enumerate(batches):
        rng = np.random.default_rng([seed, epoch, step])
        share = rng.beta(alpha, alpha, size=len(images)).astype(np.float32)
        share = np.maximum(share, 1 - share)
        other = rng.permutation(len(images))
        pixels = share[:, None, None, None]
        mixed = pixels * images + (1 - pixels) * images[other]
        labels = share[:, None]
        yield np.rint(mixed).astype(np.uint8), labels * targets + (1 - labels) * targets[other]


def ahead(items: Iterable[Any], depth: int = 3) -> Iterator[Any]:
    """The same items in the same order, up to ``depth`` of them made ahead in a thread; its errors are raised here.

    Not ``tf.data``'s prefetch, which makes a TensorFlow ``UnknownError`` of the loader's ``UserError`` and ends the
    loader's processes when garbage is collected; nor a ``PyDataset``, which wants batches by their number.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=depth)
    cancelled = threading.Event()

    def offer(item: Any, error: BaseException | None = None) -> None:
        while not cancelled.is_set():
            try:
                return waiting.put((item, error), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                offer(item)
                if cancelled.is_set():
                    break
            offer(_END)
        except BaseException as error:
            offer(_END, error)
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    thread = threading.Thread(target=work, name="batches-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        cancelled.set()
        thread.join()
