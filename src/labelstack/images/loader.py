"""Batches out of shards: shuffled, augmented and repeatable for training, in order for evaluation."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.errors import UserError
from labelstack.images.decode import decode
from labelstack.images.shards import Shard, read_shard, shard_paths, status_frame
from labelstack.images.workers import Augmenter, Part, WorkerPool, make_batch
from labelstack.params import Augment, Resize
from labelstack.progress import bar

CACHE_BYTES = 512 * 2**20
_SHUFFLE, _AUGMENT = 1, 2  # separate random streams

Images = NDArray[np.uint8]
Targets = NDArray[np.float32]


class TrainingBatches:
    """Shuffled, augmented batches of a subset of a split.

    What an epoch yields depends on the data, ``batch_size``, ``seed``, ``shuffle_shards`` and the epoch's number only:
    not on ``workers``, nor on which epochs were drawn before. Shards are shuffled, and rows within windows of
    ``shuffle_shards`` shards, so memory stays bounded; the decoded images of a small subset are kept in memory.

    Parameters
    ----------
    shards : Path
        Folder of the split's shards.
    image_ids : int64 [n]
        The subset; every image must have been downloaded.
    targets : float32 [n, n_labels]
        Rows as in ``image_ids``.
    size : int
        Side of the square images in pixels.
    batch_size, seed : int
    augment : Augment or None
    resize : ``stretch`` or ``letterbox``, see ``decode``
    workers : int or None
        Processes that decode and augment; None for one per core, 0 for none.
    shuffle_shards : int
    cache_bytes : int
        Decoded images are kept when all of them fit into this many bytes.

    Raises
    ------
    UserError
        When images are not in the shards, or a worker process dies.
    """

    def __init__(
        self,
        shards: Path,
        image_ids: NDArray[np.int64],
        targets: Targets,
        *,
        size: int,
        batch_size: int,
        seed: int,
        augment: Augment | None,
        resize: Resize = "stretch",
        workers: int | None = None,
        shuffle_shards: int = 8,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if len(image_ids) != len(targets):
            raise ValueError(f"{len(image_ids)} image_ids do not fit {len(targets)} rows of targets")
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.augment, self.resize, self.shuffle_shards = augment, resize, shuffle_shards
        self.workers = _cores() if workers is None else workers
        self._targets = np.asarray(targets, np.float32)
        self._rows = _Rows(Path(shards), np.asarray(image_ids, np.int64))
        self._cached = len(image_ids) * size * size * 3 <= cache_bytes
        self._pixels: Images | None = None
        self._pool: WorkerPool | None = None
        self._augmenter: Augmenter | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the last and smaller one included."""
        return -(-len(self._targets) // self.batch_size)

    def __enter__(self) -> TrainingBatches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes and drop the kept images."""
        if self._pool is not None:
            self._pool.close()
        self._pool = self._pixels = None

    def epoch(self, number: int) -> Iterator[tuple[Images, Targets]]:
        """Batches of epoch ``number``: images uint8 [b, size, size, 3] RGB and targets float32 [b, n_labels]."""
        make, ahead = self._maker()
        flying: deque[tuple[Future[Images], NDArray[np.int64]]] = deque()
        try:
            for step, (rows, parts) in enumerate(self._batches(number)):
                flying.append((make(parts, _draw(self.seed, _AUGMENT, number, step)), rows))
                if len(flying) > ahead:
                    yield self._take(flying)
            while flying:
                yield self._take(flying)
        finally:
            for future, _ in flying:
                future.cancel()

    def _take(self, flying: deque[tuple[Future[Images], NDArray[np.int64]]]) -> tuple[Images, Targets]:
        future, rows = flying.popleft()
        return future.result(), self._targets[rows]

    def _maker(self) -> tuple[Callable[[list[Part], int], Future[Images]], int]:
        """What turns a batch's images into a future, and how many batches to keep ahead of the reader."""
        if self.workers > 0 and (self.augment is not None or not self._cached):
            self._pool = self._pool or WorkerPool(self.workers, self.size, self.augment, self.resize)
            return self._pool.submit, 2 * self.workers
        if self.augment is not None and self._augmenter is None:
            from labelstack.images.augment import build_augmenter

            self._augmenter = build_augmenter(self.augment)
        return self._here, 0

    def _here(self, parts: list[Part], seed: int) -> Future[Images]:
        future: Future[Images] = Future()
        future.set_result(make_batch(parts, self.size, seed, self._augmenter, self.resize))
        return future

    def _batches(self, number: int) -> Iterator[tuple[NDArray[np.int64], list[Part]]]:
        """Rows of the subset and their images (JPEG bytes, or views of kept pixels), batch by batch."""
        random = np.random.default_rng(_draw(self.seed, _SHUFFLE, number, 0))
        pixels = self._kept_pixels()
        waiting_rows, waiting = np.empty(0, np.int64), list[Part]()
        order = random.permutation(len(self._rows.shards))
        for start in range(0, len(order), self.shuffle_shards):
            window = [self._rows.shards[position] for position in order[start : start + self.shuffle_shards]]
            rows = np.concatenate([shard.rows for shard in window])
            turn = random.permutation(len(rows))
            rows = rows[turn]
            if pixels is None:
                jpegs = [data for shard in window for data in shard.read()]
                images: list[Part] = [jpegs[position] for position in turn]
            else:
                images = [pixels[row].data for row in rows]
            waiting_rows, waiting = np.concatenate([waiting_rows, rows]), waiting + images
            while len(waiting) >= self.batch_size:
                yield waiting_rows[: self.batch_size], waiting[: self.batch_size]
                waiting_rows, waiting = waiting_rows[self.batch_size :], waiting[self.batch_size :]
        if waiting:
            yield waiting_rows, waiting

    def _kept_pixels(self) -> Images | None:
        if self._cached and self._pixels is None:
            pixels = np.empty((len(self._targets), self.size, self.size, 3), np.uint8)
            with ThreadPoolExecutor(_cores()) as threads:
                for shard in bar(self._rows.shards, desc="decode", unit="shard"):
                    decoded = threads.map(lambda data: decode(data, self.size, self.resize), shard.read())
                    for row, image in zip(shard.rows, decoded, strict=True):
                        pixels[row] = image
            self._pixels = pixels
        return self._pixels


def evaluation_batches(
    shards: Path, image_ids: NDArray[np.int64] | None, size: int, batch_size: int, resize: Resize = "stretch"
) -> Iterator[tuple[NDArray[np.int64], Images]]:
    """Images with status ok in the manifest's order, all of them or those in ``image_ids``.

    Yields
    ------
    ids : int64 [b]
    images : uint8 [b, size, size, 3] RGB
    """
    wanted = None if image_ids is None else pd.Index(np.asarray(image_ids, np.int64))
    ids, jpegs = list[int](), list[bytes]()
    with ThreadPoolExecutor(_cores()) as threads:
        for path in shard_paths(shards):
            shard = read_shard(path)
            chosen = np.ones(len(shard.image_id), bool) if wanted is None else np.isin(shard.image_id, wanted)
            for row in np.flatnonzero(chosen):
                data = shard.bytes[row]
                if data is not None:
                    ids.append(int(shard.image_id[row]))
                    jpegs.append(data)
            while len(ids) >= batch_size:
                yield _decoded(ids[:batch_size], jpegs[:batch_size], size, resize, threads)
                ids, jpegs = ids[batch_size:], jpegs[batch_size:]
        if ids:
            yield _decoded(ids, jpegs, size, resize, threads)


def _decoded(
    ids: list[int], jpegs: Iterable[bytes], size: int, resize: Resize, threads: ThreadPoolExecutor
) -> tuple[NDArray[np.int64], Images]:
    return np.array(ids, np.int64), np.stack(list(threads.map(lambda data: decode(data, size, resize), jpegs)))


class _ShardRows:
    """Which rows of one shard belong to the subset: ``positions`` in the shard, ``rows`` in the subset."""

    def __init__(self, path: Path, positions: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        self.path, self.positions, self.rows = path, positions, rows

    def read(self) -> list[bytes]:
        shard: Shard = read_shard(self.path)
        return [shard.bytes[position] or b"" for position in self.positions]


class _Rows:
    """The subset, found in the shards by id."""

    def __init__(self, folder: Path, image_ids: NDArray[np.int64]) -> None:
        wanted = pd.Index(image_ids)
        if not wanted.is_unique:
            raise ValueError("image_ids must be unique")
        self.shards: list[_ShardRows] = []
        found = np.zeros(len(wanted), bool)
        for path in shard_paths(folder):
            frame = status_frame(path)
            rows = wanted.get_indexer(pd.Index(frame["image_id"]))
            positions = np.flatnonzero((rows >= 0) & (frame["status"] == "ok").to_numpy())
            if len(positions):
                self.shards.append(_ShardRows(path, positions, rows[positions]))
                found[rows[positions]] = True
        if not found.all():
            missing = image_ids[~found]
            shown = ", ".join(str(value) for value in missing[:10])
            raise UserError(f"{folder}: {len(missing)} of {len(found)} images were not downloaded (ids {shown}, …)")


def _draw(seed: int, stream: int, epoch: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, stream, epoch, step)).generate_state(1, np.uint32)[0])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
