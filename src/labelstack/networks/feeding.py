"""Batches on their way to the network: mixup, CutMix, and preparing the next while the network is busy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labelstack.params.models import MixedPer

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]

_END = object()


class EpochBatches(Protocol):
    """Training data in batches, a pass at a time.

    Attributes
    ----------
    targets : float32 [n, n_labels], of rows in the order of their numbers
    batch_size : rows of a batch; the last may have fewer
    digest : text that is another one for other images, ways to make them, or seeds
    """

    batch_size: int

    @property
    def targets(self) -> NDArray[np.float32]:
        """See above."""

    @property
    def digest(self) -> str:
        """See above."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""

    def epoch(self, e: int, again: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        """Batches (uint8 [b, S, S, 3], float32 [b, n_labels]) of epoch ``e`` (from 0), the same whenever asked.

        Rows in ``again`` come twice.
        """

    def order(self, e: int, again: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Rows, numbers from 0, in the order in which ``epoch`` gives them."""


def mixed_up(
    batches: Iterable[Batch], alpha: float, seed: int, epoch: int, *, per: MixedPer = "image", cutmix: float = 0
) -> Iterator[Batch]:
    """Mixup and CutMix within each batch; with both, every batch gets one of them, by a coin.

    Depends only on (batches, seed, epoch). A label that one of the two images does not know (NaN) is not known of both.

    Parameters
    ----------
    alpha, cutmix : of Beta(alpha, alpha), from which mixup's and CutMix's λ is drawn; 0: off
    per : ``image``: each image draws its own λ, box and partner; ``batch``: all have the same λ and box, and partners
        as many places away
    """
    for step, (images, targets) in enumerate(batches):
        rng = np.random.default_rng([seed, epoch, step])
        coin = np.random.default_rng([seed, epoch, step, 1]).random() if alpha and cutmix else 0
        if alpha and coin < 0.5:
            yield _mixup(images, targets, alpha, rng, per)
        elif cutmix:
            yield _cutmix(images, targets, cutmix, rng, per)
        else:
            yield images, targets


def _mixup(
    images: NDArray[np.uint8], targets: NDArray[np.float32], alpha: float, rng: np.random.Generator, per: MixedPer
) -> Batch:
    """Image and targets become λ·own + (1 − λ)·another's (Zhang et al. 2018); pixels are rounded to uint8 again.

    Of images each on its own, λ's larger side is the image's.
    """
    n = len(images)
    if per == "image":
        share = rng.beta(alpha, alpha, size=n).astype(np.float32)
        share = np.maximum(share, 1 - share)
    else:
        share = np.full(n, rng.beta(alpha, alpha), np.float32)
    other = _partners(n, rng, per)
    pixels = share[:, None, None, None]
    mixed = pixels * images + (1 - pixels) * images[other]
    labels = share[:, None]
    return np.rint(mixed).astype(np.uint8), labels * targets + (1 - labels) * targets[other]


def _cutmix(
    images: NDArray[np.uint8], targets: NDArray[np.float32], alpha: float, rng: np.random.Generator, per: MixedPer
) -> Batch:
    """A box of 1 − λ of the area shows another image, and targets are mixed by area (Yun et al. 2019)."""
    (n, height, width), several = images.shape[:3], per == "image"
    count = n if several else 1
    side = np.sqrt(1 - rng.beta(alpha, alpha, size=count))
    middle = rng.random((count, 2)) * (height, width)
    half = side[:, None] * (height, width) / 2
    low, high = np.rint(np.clip(middle - half, 0, (height, width))), np.rint(np.clip(middle + half, 0, (height, width)))
    rows, columns = np.arange(height), np.arange(width)
    down = (rows >= low[:, :1]) & (rows < high[:, :1])
    across = (columns >= low[:, 1:]) & (columns < high[:, 1:])
    inside = np.broadcast_to(down[:, :, None] & across[:, None, :], (n, height, width))
    other = _partners(n, rng, per)
    share = (1 - inside.mean(axis=(1, 2), dtype=np.float64)).astype(np.float32)[:, None]
    return np.where(inside[..., None], images[other], images), share * targets + (1 - share) * targets[other]


def _partners(n: int, rng: np.random.Generator, per: MixedPer) -> NDArray[np.int64]:
    if per == "image":
        return rng.permutation(n)
    return np.roll(np.arange(n), rng.integers(1, n) if n > 1 else 0)


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
