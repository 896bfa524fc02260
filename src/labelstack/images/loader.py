"""Batches out of shards: shuffled, augmented and repeatable for training, in order for evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.images.pixels.augment import Augmenter, build_augmenter
from labelstack.images.pixels.decode import decode
from labelstack.images.pixels.geometry import Geometry
from labelstack.images.pixels.source_crops import build_croppers
from labelstack.images.shards.shard_files import read_jpegs, shard_paths, status_frame
from labelstack.images.workers import Buffer, Portion, WorkerPool, decode_for, make_images
from labelstack.params import digest
from labelstack.params.augment import AugmentSection
from labelstack.params.models import Resize
from labelstack.params.region_view import PLAIN, RegionView
from labelstack.support.box import Box, Boxes, as_rows, of_row
from labelstack.support.cores import cores
from labelstack.support.errors import UserError
from labelstack.support.progress import bar

CACHE_BYTES = 512 * 2**20
_SHUFFLE, _AUGMENT = 1, 2  # separate random streams
_PIECE = 32  # images that a worker gets at once
_EVALUATION_AHEAD = 2  # batches

Images = NDArray[np.uint8]
Targets = NDArray[np.float32]
T = TypeVar("T")


class Shown(Protocol):
    """What becomes of stored images that a network is shown in several views; ``pixels.tta.Looks`` is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image as it is shown."""

    def groups(self, n: int, batch_size: int) -> Iterator[slice]:
        """Which images of a batch of n are shown together."""

    def __call__(self, jpeg: Buffer, image_id: int, box: Box | None = None) -> Images:
        """An image as it is shown, uint8 of that shape."""


class TrainingBatches:
    """Shuffled, augmented batches of a subset of a split.

    What an epoch yields depends on the data, ``batch_size``, ``seed``, ``shuffle_shards`` and the epoch's number only:
    not on ``workers``, nor on which epochs were drawn before. How an image is augmented depends on ``seed``, the epoch
    and the image only. Shards are shuffled, and rows within windows of ``shuffle_shards`` shards, so memory stays
    bounded: a window of JPEGs, and the batches made ahead, which are 64 images a worker, but at least two batches.
    The decoded images of a small subset are kept in memory, unless the policy crops stored images: squares, or, where
    the policy moves or crops, stored images of up to three times as many pixels.

    Parameters
    ----------
    shards : Path, or sequence of (Path, int)
        Folder of the split's shards; of several splits the folder of each, and how many of the rows are its.
    image_ids : int64 [n]
        The subset, split by split; every image must have been downloaded. Each split has ids of its own.
    targets : float32 [n, n_labels]
        Rows as in ``image_ids``.
    size : int
        Side of the square images in pixels.
    batch_size, seed : int
    augment : AugmentSection or None
    resize : ``stretch`` or ``letterbox``, see ``decode``
    workers : int or None
        Processes that decode and augment; None for one per core, 0 for none.
    shuffle_shards : int
    cache_bytes : int
        Decoded images are kept when all of them fit into this many bytes.
    boxes : mapping, optional
        Part of an image that is seen, by id; the others are seen whole.
    view : RegionView
        What is given of a region; a mask is a fourth channel of its image.

    Raises
    ------
    UserError
        When images are not in the shards, or a worker process dies.
    """

    def __init__(
        self,
        shards: Path | Sequence[tuple[Path, int]],
        image_ids: NDArray[np.int64],
        targets: Targets,
        *,
        size: int,
        batch_size: int,
        seed: int,
        augment: AugmentSection | None,
        resize: Resize = "stretch",
        workers: int | None = None,
        shuffle_shards: int = 8,
        cache_bytes: int = CACHE_BYTES,
        boxes: Boxes | None = None,
        view: RegionView = PLAIN,
    ) -> None:
        if len(image_ids) != len(targets):
            raise ValueError(f"{len(image_ids)} image_ids do not fit {len(targets)} rows of targets")
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.augment, self.resize, self.shuffle_shards = augment, resize, shuffle_shards
        self.view = view
        self.workers = cores() if workers is None else workers
        self._targets = np.asarray(targets, np.float32)
        self._image_ids = np.asarray(image_ids, np.int64)
        self._boxes = as_rows(boxes, self._image_ids)
        self._folders = [(Path(shards), len(image_ids))] if isinstance(shards, str | Path) else list(shards)
        self._shards, self._sides = _find_all(self._folders, self._image_ids)
        self._zoom = None if augment is None else Geometry(augment).zoom
        self._croppers = build_croppers(augment, size)  # of other pixels each epoch, so these cannot be kept
        self._cached = self._croppers is None and self._bytes_of(self._sides) <= cache_bytes
        self._pixels: list[Images] | None = None
        self._pool: WorkerPool | None = None
        self._augmenter: Augmenter | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the last and smaller one included."""
        return -(-len(self._targets) // self.batch_size)

    @property
    def targets(self) -> Targets:
        """Float32 [n, n_labels], rows as in ``image_ids``."""
        return self._targets

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """Int64 [n], the subset."""
        return self._image_ids

    @property
    def sides(self) -> NDArray[np.int64]:
        """Heights and widths of the stored images, int64 [n, 2], rows as in ``image_ids``."""
        return self._sides

    @property
    def boxes(self) -> NDArray[np.float64] | None:
        """Parts of images that are seen, float64 [n, 4] as ``box.as_rows`` has them; None: all are seen whole."""
        return self._boxes

    def augment_seed(self, number: int) -> int:
        """The seed of all augmentation in epoch ``number``."""
        return _draw(self.seed, _AUGMENT, number)

    @property
    def digest(self) -> str:
        """16 hex digits over what is seen of which images, but for their bytes."""
        boxes = None if self._boxes is None else sha256(self._boxes.tobytes()).hexdigest()
        return digest(
            {
                "ids": sha256(self._image_ids.tobytes()).hexdigest(),
                "size": self.size,
                "resize": self.resize,
                "augment": self.augment,
                "seed": self.seed,
                "batch_size": self.batch_size,
                "shuffle_shards": self.shuffle_shards,
                "boxes": boxes,
                **({} if self.view == PLAIN else {"view": list(self.view)}),
                **({"rows": [n for _, n in self._folders]} if len(self._folders) > 1 else {}),
            }
        )

    def __enter__(self) -> TrainingBatches:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes and drop the kept images."""
        if self._pool is not None:
            self._pool.close()
        self._pool = self._pixels = None

    def epoch(self, number: int, again: NDArray[np.int64] | None = None) -> Iterator[tuple[Images, Targets]]:
        """Batches of epoch ``number``: images uint8 [b, size, size, channels] and targets float32 [b, n_labels].

        Channels are RGB, and the mask where ``view`` has one. Rows in ``again`` come twice, augmented alike.
        """
        submit, ahead = self._maker()
        seed = self.augment_seed(number)
        yield from _in_order((self._start(*batch, seed, submit) for batch in self._batches(number, again)), ahead)

    def order(self, number: int, again: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Rows in the order in which ``epoch`` gives them, int64; nothing is read."""
        return np.concatenate([np.empty(0, np.int64), *(rows for _, rows, _ in self._windows(number, again))])

    def _start(
        self, rows: NDArray[np.int64], images: Sequence[Buffer], seed: int, submit: _Submit
    ) -> tuple[tuple[Images, Targets], list[Future[None]]]:
        pixels = np.empty((len(rows), self.size, self.size, self.view.channels), np.uint8)
        futures = []
        for start in range(0, len(rows), _PIECE):
            part = slice(start, start + _PIECE)
            ids, boxes = self._image_ids[rows[part]], None if self._boxes is None else self._boxes[rows[part]]
            kept = None if self._pixels is None else [self._pixels[row].shape[:2] for row in rows[part]]
            portion = Portion(images[part], ids, seed, None if kept is None else np.array(kept, np.int64), boxes)
            futures.append(submit(portion, pixels[part]))
        return (pixels, self._targets[rows]), futures

    def _maker(self) -> tuple[_Submit, int]:
        """What takes a portion, and how many batches to keep ahead of the reader."""
        if self.workers > 0 and (self.augment is not None or not self._cached):
            self._pool = self._pool or WorkerPool(self.workers, self.size, self.augment, self.resize, self.view)
            return self._pool.submit, max(2, -(-2 * self.workers * _PIECE // self.batch_size))
        if self.augment is not None and self._augmenter is None:
            self._augmenter = build_augmenter(self.augment)
        return self._here, 0

    def _here(self, portion: Portion, out: Images) -> Future[None]:
        future: Future[None] = Future()
        out[:] = make_images(portion, self.size, self._augmenter, self.resize, self._croppers, self.view)
        future.set_result(None)
        return future

    def _windows(
        self, number: int, again: NDArray[np.int64] | None
    ) -> Iterator[tuple[list[_ShardRows], NDArray[np.int64], NDArray[np.int64]]]:
        """Shards that are shuffled together, their rows in the order that they come in, and from which places."""
        random = np.random.default_rng(_draw(self.seed, _SHUFFLE, number))
        order = random.permutation(len(self._shards))
        for start in range(0, len(order), self.shuffle_shards):
            window = [self._shards[position] for position in order[start : start + self.shuffle_shards]]
            if again is not None:
                window = [shard.with_some_twice(again) for shard in window]
            unmixed = np.concatenate([shard.rows for shard in window])
            turn = random.permutation(len(unmixed))
            yield window, unmixed[turn], turn

    def _batches(
        self, number: int, again: NDArray[np.int64] | None
    ) -> Iterator[tuple[NDArray[np.int64], list[Buffer]]]:
        """Rows of the subset and their images (JPEGs, or kept pixels), batch by batch."""
        pixels = self._kept_pixels()
        rows, images = np.empty(0, np.int64), list[Buffer]()
        with ThreadPoolExecutor(cores()) as threads:
            for window, mixed, turn in self._windows(number, again):
                rows = np.concatenate([rows, mixed])
                if pixels is None:
                    stored = [data for shard in threads.map(_ShardRows.read, window) for data in shard]
                    images += [stored[position] for position in turn]
                    del stored
                else:
                    images += [pixels[row].data for row in mixed]
                end = len(images) - len(images) % self.batch_size
                for at in range(0, end, self.batch_size):
                    part = slice(at, at + self.batch_size)
                    yield rows[part], images[part]
                rows, images = rows[end:], images[end:]  # the window before goes before the next comes
        if images:
            yield rows, images

    def _kept_pixels(self) -> list[Images] | None:
        if self._cached and self._pixels is None:
            pixels = dict[int, Images]()
            with ThreadPoolExecutor(cores()) as threads:
                for shard in bar(self._shards, desc="decode", unit="shard"):
                    pixels.update(
                        zip(shard.rows.tolist(), threads.map(self._decoded, shard.rows, shard.read()), strict=True)
                    )
            self._pixels = [pixels[row] for row in range(len(pixels))]
        return self._pixels

    def _decoded(self, row: int, data: Buffer) -> Images:
        box = None if self._boxes is None else of_row(self._boxes[row])
        return decode_for(data, self.size, self._zoom, self.resize, box, self.view)

    def _bytes_of(self, sides: NDArray[np.int64]) -> int:
        """What all decoded images take at most; ``sides`` int64 [n, 2] are those of the stored ones."""
        square = self.size**2
        most = square if self._zoom is None or self.resize == "letterbox" else max(square, 3 * square * self._zoom**2)
        return int(self.view.channels * np.clip(sides.prod(axis=1), square, most).sum())


def evaluation_batches(
    shards: Path,
    image_ids: NDArray[np.int64] | None,
    size: int,
    batch_size: int,
    resize: Resize = "stretch",
    boxes: Boxes | None = None,
    view: RegionView = PLAIN,
) -> Iterator[tuple[NDArray[np.int64], Images]]:
    """Images with status ok in the manifest's order, all of them or those in ``image_ids``.

    ``shards`` is a split's folder, or one shard; ``boxes`` are parts of images that are seen, by id.

    Yields
    ------
    ids : int64 [b]
    images : uint8 [b, size, size, view.channels] RGB
    """

    def square(jpeg: Buffer, image_id: int, box: Box | None) -> Images:
        return decode(jpeg, size, resize, box, view)

    stored, shape = _stored_batches(shards, _chosen(image_ids), batch_size), (size, size, view.channels)
    yield from _batches_of(stored, square, shape, boxes)


def shown_batches(
    shards: Path, image_ids: NDArray[np.int64] | None, shown: Shown, batch_size: int, boxes: Boxes | None = None
) -> Iterator[tuple[NDArray[np.int64], Images]]:
    """The same images as ``evaluation_batches`` gives, as they are shown, in the groups of each batch.

    Yields
    ------
    ids : int64 [b]
    images : uint8 [b, …]
    """

    def grouped() -> Iterator[tuple[NDArray[np.int64], list[Buffer]]]:
        for ids, jpegs in _stored_batches(shards, _chosen(image_ids), batch_size):
            for rows in shown.groups(len(ids), batch_size):
                yield ids[rows], jpegs[rows]

    yield from _batches_of(grouped(), shown, shown.shape, boxes)


def _chosen(image_ids: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    return None if image_ids is None else np.asarray(image_ids, np.int64)


def _batches_of(
    stored: Iterator[tuple[NDArray[np.int64], list[Buffer]]],
    shown: Callable[[Buffer, int, Box | None], Images],
    shape: tuple[int, ...],
    boxes: Boxes | None,
) -> Iterator[tuple[NDArray[np.int64], Images]]:
    """Stored images as they are shown, each of this shape, in threads and ahead of the reader."""
    one = len(shape) > 3  # an image in many views is a piece of its own, and a group may be one image
    piece, ahead = (1, max(_EVALUATION_AHEAD, cores())) if one else (_PIECE, _EVALUATION_AHEAD)
    with ThreadPoolExecutor(cores()) as threads:

        def start(ids: NDArray[np.int64], jpegs: list[Buffer]) -> tuple[tuple[NDArray[np.int64], Images], list[Any]]:
            pixels, seen = np.empty((len(ids), *shape), np.uint8), as_rows(boxes, ids)
            futures = []
            for first in range(0, len(ids), piece):
                part = slice(first, first + piece)
                rows = None if seen is None else seen[part]
                futures.append(threads.submit(_show_in, pixels[part], ids[part], jpegs[part], shown, rows))
            return (ids, pixels), futures

        yield from _in_order(starmap(start, stored), ahead)


def _in_order(started: Iterator[tuple[T, list[Future[None]]]], ahead: int) -> Iterator[T]:
    """Batches, each when its futures are done, with so many more of them under way."""
    flying: deque[tuple[T, list[Future[None]]]] = deque()
    try:
        for batch in started:
            flying.append(batch)
            if len(flying) > ahead:
                yield _landed(*flying.popleft())
        while flying:
            yield _landed(*flying.popleft())
    finally:
        for _, futures in flying:
            for future in futures:
                future.cancel()


def _landed(batch: T, futures: list[Future[None]]) -> T:
    for future in futures:
        future.result()
    return batch


def _stored_batches(
    shards: Path, wanted: NDArray[np.int64] | None, batch_size: int
) -> Iterator[tuple[NDArray[np.int64], list[Buffer]]]:
    """Ids and JPEGs of the images that are there, in order."""
    ids, jpegs = list[int](), list[Buffer]()
    for path in shard_paths(shards) if Path(shards).is_dir() else [Path(shards)]:
        shard = read_jpegs(path)
        chosen = np.ones(len(shard.image_id), bool) if wanted is None else np.isin(shard.image_id, wanted)
        for row in np.flatnonzero(chosen):
            if (data := shard.jpeg[row]) is not None:
                ids.append(int(shard.image_id[row]))
                jpegs.append(data)
        while len(ids) >= batch_size:
            yield np.array(ids[:batch_size], np.int64), jpegs[:batch_size]
            ids, jpegs = ids[batch_size:], jpegs[batch_size:]
    if ids:
        yield np.array(ids, np.int64), jpegs


def _show_in(
    out: Images,
    ids: NDArray[np.int64],
    jpegs: Sequence[Buffer],
    shown: Callable[[Buffer, int, Box | None], Images],
    boxes: NDArray[np.float64] | None,
) -> None:
    for place, (row, image_id, data) in enumerate(zip(out, ids.tolist(), jpegs, strict=True)):
        row[:] = shown(data, image_id, None if boxes is None else of_row(boxes[place]))


_Submit = Callable[[Portion, Images], Future[None]]


class _ShardRows(NamedTuple):
    """Which rows of one shard belong to the subset: ``positions`` in the shard, ``rows`` in the subset."""

    path: Path
    positions: NDArray[np.int64]
    rows: NDArray[np.int64]

    def with_some_twice(self, again: NDArray[np.int64]) -> _ShardRows:
        """The same, rows in ``again`` twice."""
        times = 1 + np.isin(self.rows, again)
        return _ShardRows(self.path, np.repeat(self.positions, times), np.repeat(self.rows, times))

    def read(self) -> list[Buffer]:
        """JPEGs of these rows, copied, so that the shard's memory is free again."""
        jpegs = read_jpegs(self.path).jpeg
        return [bytes(jpegs[position] or b"") for position in self.positions]


def _find_all(
    folders: Sequence[tuple[Path, int]], image_ids: NDArray[np.int64]
) -> tuple[list[_ShardRows], NDArray[np.int64]]:
    """The rows of each folder in turn, as ``_find``."""
    shards, sides, first = list[_ShardRows](), [], 0
    for folder, n in folders:
        found, of_folder = _find(folder, image_ids[first : first + n])
        shards += [one._replace(rows=one.rows + first) for one in found]
        sides.append(of_folder)
        first += n
    if first != len(image_ids):
        raise ValueError(f"{len(image_ids)} image_ids do not fit the {first} rows of the folders")
    return shards, np.concatenate(sides)


def _find(folder: Path, image_ids: NDArray[np.int64]) -> tuple[list[_ShardRows], NDArray[np.int64]]:
    """The subset, found in the shards by id, and heights and widths of its images, int64 [n, 2]."""
    wanted = pd.Index(image_ids)
    if not wanted.is_unique:
        raise ValueError("image_ids must be unique")
    shards, found, sides = list[_ShardRows](), np.zeros(len(wanted), bool), np.zeros((len(wanted), 2), np.int64)
    for path in shard_paths(folder):
        frame = status_frame(path)
        rows = wanted.get_indexer(pd.Index(frame["image_id"]))
        positions = np.flatnonzero((rows >= 0) & (frame["status"] == "ok").to_numpy())
        if len(positions):
            shards.append(_ShardRows(path, positions, rows[positions]))
            found[rows[positions]] = True
            sides[rows[positions]] = frame[["height", "width"]].to_numpy()[positions]
    if not found.all():
        missing = image_ids[~found]
        shown = ", ".join(str(value) for value in missing[:10])
        raise UserError(f"{folder}: {len(missing)} of {len(found)} images were not downloaded (ids {shown}, …)")
    return shards, sides


def _draw(seed: int, stream: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, stream, epoch)).generate_state(1, np.uint64)[0])
