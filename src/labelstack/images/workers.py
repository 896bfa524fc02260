"""Worker processes that decode and augment: plain subprocesses with a small binary protocol over pipes.

A task and its answer are frames: a count, the lengths of the parts, the parts. Nothing is pickled, the main module is
not imported again, so no framework of the caller is loaded here, and a worker whose parent has gone meets the end of
its input and ends too.
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO

import numpy as np
from numpy.typing import NDArray

from labelstack.errors import UserError
from labelstack.images.decode import decode
from labelstack.params import Augment, Resize

Part = bytes | memoryview
Augmenter = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]
_GOODBYE_S = 10
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from labelstack.images.workers import main; main()"


def make_batch(
    parts: Sequence[Part], size: int, seed: int, augmenter: Augmenter | None, resize: Resize = "stretch"
) -> NDArray[np.uint8]:
    """Images, as JPEG bytes or as decoded pixels of size² × 3 bytes, to an augmented uint8 [n, size, size, 3]."""
    batch = np.empty((len(parts), size, size, 3), np.uint8)
    for row, part in enumerate(parts):
        decoded = isinstance(part, memoryview)
        batch[row] = (
            np.frombuffer(part, np.uint8).reshape(size, size, 3) if decoded else decode(bytes(part), size, resize)
        )
    return batch if augmenter is None else augmenter(batch, seed)


class WorkerPool:
    """``n`` processes that run ``make_batch``; results come back as futures.

    Parameters
    ----------
    n : int
    size : int
        Side of the square images in pixels.
    augment : Augment or None
    resize : how images become squares
    """

    def __init__(self, n: int, size: int, augment: Augment | None, resize: Resize = "stretch") -> None:
        self.size = size
        policy = None if augment is None else augment.model_dump(mode="json")
        config = json.dumps({"size": size, "resize": resize, "augment": policy})
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

    def submit(self, parts: Sequence[Part], seed: int) -> Future[NDArray[np.uint8]]:
        """Queue one batch; the future raises ``UserError`` when its worker died."""
        return self._threads.submit(self._call, parts, seed)

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

    def _call(self, parts: Sequence[Part], seed: int) -> NDArray[np.uint8]:
        process = self._idle.get()
        try:
            kind = b"pixels" if parts and isinstance(parts[0], memoryview) else b"jpeg"
            _write_frame(_pipe(process.stdin), [struct.pack("<Q", seed), kind, *parts])
            answer = _read_frame(_pipe(process.stdout))
        except (OSError, EOFError):  # a broken pipe
            answer = None
        finally:
            self._idle.put(process)
        if answer is None:
            code = process.wait()
            cause = f"was ended by signal {-code} (out of memory?)" if code < 0 else f"ended with code {code}"
            raise UserError(f"an image worker {cause}; lower training.workers or the batch size and run again")
        if answer[0] == b"error":
            raise UserError(f"an image worker failed: {bytes(answer[1]).decode()}")
        return np.frombuffer(answer[1], np.uint8).reshape(len(parts), self.size, self.size, 3)


def main() -> None:
    """Answer tasks on standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print must not get between the frames
    import cv2

    from labelstack.images.augment import build_augmenter

    cv2.setNumThreads(1)
    config = json.loads(sys.argv[2])
    augmenter = None if config["augment"] is None else build_augmenter(Augment(**config["augment"]))
    for seed, kind, *parts in _frames(sys.stdin.buffer):
        images = [memoryview(part) for part in parts] if kind == b"pixels" else parts
        try:
            batch = make_batch(images, config["size"], struct.unpack("<Q", seed)[0], augmenter, config["resize"])
            answer: list[Part] = [b"batch", np.ascontiguousarray(batch).data.cast("B")]
        except Exception as error:
            answer = [b"error", f"{type(error).__name__}: {error}".encode()]
        _write_frame(answers, answer)


def _frames(file: IO[bytes]) -> Iterator[list[bytes]]:
    while (frame := _read_frame(file)) is not None:
        yield frame


def _write_frame(file: IO[bytes], parts: Sequence[Part]) -> None:
    lengths = [len(part) if isinstance(part, bytes) else part.nbytes for part in parts]
    file.write(struct.pack(f"<{len(parts) + 1}Q", len(parts), *lengths))
    for part in parts:
        file.write(part)
    file.flush()


def _read_frame(file: IO[bytes]) -> list[bytes] | None:
    head = file.read(8)
    if len(head) < 8:
        return None
    count = struct.unpack("<Q", head)[0]
    lengths = struct.unpack(f"<{count}Q", _exactly(file, 8 * count))
    return [_exactly(file, length) for length in lengths]


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
