"""Worker processes that decode and augment: plain subprocesses with a small binary protocol over pipes.

A portion and its answer are frames: a count, the lengths of the parts, the parts. Nothing is pickled, the main module
is not imported again, so no framework of the caller is loaded here, and a worker whose parent has gone meets the end of
its input and ends too. The parent reads an answer's pixels straight into their rows of the batch.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.augment import Augmenter, build_augmenter
from labelstack.images.pixels.decode import decode, decode_to_move
from labelstack.images.pixels.region_mask import part_seen
from labelstack.images.pixels.source_crops import Croppers, build_croppers
from labelstack.params.augment import AugmentSection
from labelstack.params.models import Resize
from labelstack.params.region_view import PLAIN, RegionView
from labelstack.support.box import Box, of_row
from labelstack.support.errors import UserError

Buffer = bytes | memoryview
Pixels = NDArray[np.uint8]
_GOODBYE_S = 10
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from labelstack.images.workers import main; main()"


@dataclass(frozen=True)
class Portion:
    """Some images to decode and augment.

    Attributes
    ----------
    images : buffers of JPEGs, or of decoded pixels (height × width × channels bytes each) where there are ``sides``
    image_id : int64 [n]
    seed : of the augmentation, 0 ≤ seed < 2⁶⁴
    sides : int64 [n, 2] or None, height and width of decoded pixels
    boxes : float64 [n, 4] or None, of JPEGs as ``box.as_rows`` has them; decoded pixels are cut already
    """

    images: Sequence[Buffer]
    image_id: NDArray[np.int64]
    seed: int
    sides: NDArray[np.int64] | None = None
    boxes: NDArray[np.float64] | None = None

    def box(self, place: int) -> Box | None:
        """The part of an image that is wanted; None: all of it."""
        return None if self.boxes is None else of_row(self.boxes[place])


def make_images(
    portion: Portion,
    size: int,
    augmenter: Augmenter | None,
    resize: Resize = "stretch",
    croppers: Croppers | None = None,
    view: RegionView = PLAIN,
) -> Pixels:
    """The images of a portion, decoded, cropped and augmented: uint8 [n, size, size, view.channels]."""
    out = np.empty((len(portion.images), size, size, view.channels), np.uint8)
    sources = _sources(portion, size, None if augmenter is None else augmenter.geometry.zoom, resize, croppers, view)
    if augmenter is None:
        for row, source in zip(out, sources, strict=True):
            row[:] = source
    else:
        augmenter.into(out, sources, portion.seed, portion.image_id)
    return out


def decode_for(
    data: Buffer,
    size: int,
    zoom: float | None,
    resize: Resize = "stretch",
    box: Box | None = None,
    view: RegionView = PLAIN,
) -> Pixels:
    """A stored JPEG as an augmenter of this ``zoom`` wants it, see ``Geometry``."""
    if zoom is None:
        return decode(data, size, resize, box, view)
    return decode_to_move(data, size, resize, box, zoom, view)


def _sources(
    portion: Portion, size: int, zoom: float | None, resize: Resize, croppers: Croppers | None, view: RegionView
) -> Iterator[Pixels]:
    crop = None if croppers is None else croppers(portion.seed, portion.image_id)
    for place, data in enumerate(portion.images):
        if portion.sides is not None:
            yield np.frombuffer(data, np.uint8).reshape(*portion.sides[place], view.channels)
        else:
            box = part_seen(data, portion.box(place), view)
            yield decode_for(data, size, zoom, resize, box if crop is None else crop(place, data, box), view)


class WorkerPool:
    """``n`` processes that run ``make_images``.

    Parameters
    ----------
    n : int
    size : int
        Side of the square images in pixels.
    augment : AugmentSection or None
    resize : how images become squares
    view : what is given of regions
    """

    def __init__(
        self,
        n: int,
        size: int,
        augment: AugmentSection | None,
        resize: Resize = "stretch",
        view: RegionView = PLAIN,
    ) -> None:
        self.size = size
        policy = None if augment is None else augment.model_dump(mode="json")
        config = json.dumps({"size": size, "resize": resize, "augment": policy, "view": view})
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(sys.path), config],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(n)
        ]
        for process in self.processes:
            _widen(process.stdin)
            _widen(process.stdout)
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="worker")

    def submit(self, portion: Portion, out: Pixels) -> Future[None]:
        """Queue a portion; its images are in ``out`` when the future is done, which raises ``UserError`` otherwise.

        ``out`` is uint8 [n, size, size, view.channels] and contiguous.
        """
        return self._threads.submit(self._call, portion, out)

    def close(self) -> None:
        """End the workers once they are through with the batch in hand; queued batches are dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self.processes:
            with contextlib.suppress(OSError):  # unsent bytes for a process that has gone
                _pipe(process.stdin).close()
        for process in self.processes:
            try:
                process.wait(_GOODBYE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _pipe(process.stdout).close()

    def _call(self, portion: Portion, out: Pixels) -> None:
        process = self._idle.get()
        try:
            head = [struct.pack("<Q", portion.seed), portion.image_id.astype("<i8").tobytes()]
            head.append(b"" if portion.sides is None else portion.sides.astype("<i8").tobytes())
            head.append(b"" if portion.boxes is None else portion.boxes.astype("<f8").tobytes())
            _write_frame(_pipe(process.stdin), [*head, *portion.images])
            failure = _read_answer(_pipe(process.stdout), out)
        except (OSError, EOFError):  # a broken pipe
            failure = None
            code = process.wait()
            cause = f"was ended by signal {-code} (out of memory?)" if code < 0 else f"ended with code {code}"
            raise UserError(
                f"an image worker {cause}; lower training.workers or the batch size and run again"
            ) from None
        finally:
            self._idle.put(process)
        if failure:
            raise UserError(f"an image worker failed: {failure}")


def main() -> None:
    """Answer tasks on standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print must not get between the frames
    import cv2

    cv2.setNumThreads(1)
    config = json.loads(sys.argv[2])
    view = RegionView(*config["view"])
    policy = None if config["augment"] is None else AugmentSection(**config["augment"])
    augmenter, croppers = None if policy is None else build_augmenter(policy), build_croppers(policy, config["size"])
    for seed, ids, shapes, rows, *images in _frames(sys.stdin.buffer):
        sides = np.frombuffer(shapes, "<i8").reshape(-1, 2) if shapes else None
        boxes = np.frombuffer(rows, "<f8").reshape(-1, 4) if rows else None
        (number,) = struct.unpack("<Q", seed)
        portion = Portion(images, np.frombuffer(ids, "<i8").astype(np.int64), number, sides, boxes)
        try:
            pixels = make_images(portion, config["size"], augmenter, config["resize"], croppers, view)
            answer: list[Buffer] = [b"", np.ascontiguousarray(pixels).data.cast("B")]
        except Exception as error:
            answer = [f"{type(error).__name__}: {error}".encode()]
        _write_frame(answers, answer)


def _frames(file: IO[bytes]) -> Iterator[list[bytes]]:
    while (lengths := _read_lengths(file)) is not None:
        yield [_exactly(file, length) for length in lengths]


def _write_frame(file: IO[bytes], parts: Sequence[Buffer]) -> None:
    lengths = [len(part) if isinstance(part, bytes) else part.nbytes for part in parts]
    file.write(struct.pack(f"<{len(parts) + 1}Q", len(parts), *lengths))
    for part in parts:
        file.write(part)
    file.flush()


def _read_answer(file: IO[bytes], out: Pixels) -> str:
    """Read the pixels of an answer into ``out``; what went wrong instead, or nothing."""
    lengths = _read_lengths(file)
    if lengths is None:
        raise EOFError
    failure = _exactly(file, lengths[0]).decode()
    if not failure and file.readinto(out.data.cast("B")) < out.nbytes:  # type: ignore[attr-defined]
        raise EOFError
    return failure


def _read_lengths(file: IO[bytes]) -> tuple[int, ...] | None:
    head = file.read(8)
    if len(head) < 8:
        return None
    count = struct.unpack("<Q", head)[0]
    return struct.unpack(f"<{count}Q", _exactly(file, 8 * count))


def _exactly(file: IO[bytes], length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise OSError("not a pipe")
    return pipe


def _widen(pipe: IO[bytes] | None) -> None:
    """Ask for more than 64 KiB, which saves most switches between the processes; without it all works too."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(_pipe(pipe), fcntl.F_SETPIPE_SZ, 2**20)
