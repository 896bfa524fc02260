"""Processes that build shards: plain subprocesses that take jobs and tell results as lines of JSON over pipes.

A process whose parent has gone meets the end of its input and ends at once, in the middle of a shard too. The jobs of
one that died are done again by another.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from labelstack.images.fetching.fetch import Fetcher
from labelstack.images.shards.build import Job, build, run_all
from labelstack.params.images import ImagesSection
from labelstack.support.cores import cores
from labelstack.support.errors import UserError

WINDOW = 2
_TRIES = 2
_REPORT_S = 0.25
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from labelstack.images.shards.crew import main; main()"
)

Report = Callable[[Mapping[str, int]], None]
Done = Callable[[dict[str, Any]], None]


def build_here(jobs: Iterator[Job], params: ImagesSection, root: Path, report: Report, done: Done) -> None:
    """Build shards in this process, a few at a time, so that slow rows of one do not idle the next."""

    async def all_jobs() -> None:
        async with Fetcher(params, root, threads=cores()) as fetcher:

            async def one(job: Job) -> None:
                done(await build(job, fetcher, lambda status: report({status: 1})))

            await run_all(one, jobs, WINDOW)

    asyncio.run(all_jobs())


def build_in_processes(
    jobs: Iterator[Job], params: ImagesSection, root: Path, processes: int, report: Report, done: Done
) -> None:
    """Build shards in ``processes`` processes, which share the limits of ``params`` out among them.

    ``report`` and ``done`` are called by one thread at a time. An error, theirs too, ends all processes.

    Raises
    ------
    UserError
        When a process reports one, or two died on the same shard.
    """
    lock = threading.Lock()
    crew = [_Member(number, processes, params, root, jobs, lock, report, done) for number in range(processes)]
    with ThreadPoolExecutor(processes, thread_name_prefix="crew") as threads:
        try:
            for future in as_completed([threads.submit(member.run) for member in crew]):
                future.result()
        finally:
            for member in crew:
                member.end()


class _Member:
    """One process, watched by one thread."""

    def __init__(
        self,
        number: int,
        processes: int,
        params: ImagesSection,
        root: Path,
        jobs: Iterator[Job],
        lock: threading.Lock,
        report: Report,
        done: Done,
    ) -> None:
        shares = {
            name: getattr(params, name) // processes + (number < getattr(params, name) % processes)
            for name in ("concurrency", "concurrency_per_host")
        }
        threads = max(1, cores() // processes)
        self.config = json.dumps({"params": {**params.model_dump(), **shares}, "root": str(root), "threads": threads})
        self.jobs, self.lock, self.report, self.done = jobs, lock, report, done
        self.process: subprocess.Popen[bytes] | None = None
        self.ended = False
        self.open: dict[str, Job] = {}
        self.told: dict[str, Counter[str]] = {}
        self.tries: Counter[str] = Counter()

    def run(self) -> None:
        """Do jobs until there are no more."""
        while self._start():
            process = self.process
            assert process is not None
            for line in _pipe(process.stdout):
                self._take(json.loads(line))
                if not self.open:
                    break
            if not self.open:
                self._feed()
            if not self.open or self.ended:
                break
            self._bury(process)
        self.end()

    def end(self) -> None:
        """End the process, whatever it does."""
        with self.lock:
            self.ended = True
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    _pipe(pipe).close()

    def _start(self) -> bool:
        with self.lock:
            if self.ended:
                return False
            command = [sys.executable, "-c", _START, json.dumps(sys.path), self.config]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for job in self.open.values():
            self._send(job)
        self._feed()
        return bool(self.open)

    def _feed(self) -> None:
        while len(self.open) < WINDOW:
            with self.lock:
                job = next(self.jobs, None)
            if job is None:
                break
            self.open[job.path] = job
            self._send(job)

    def _send(self, job: Job) -> None:
        assert self.process is not None
        with contextlib.suppress(OSError):  # it has died; run() meets the end of its output
            _pipe(self.process.stdin).write(json.dumps(asdict(job)).encode() + b"\n")
            _pipe(self.process.stdin).flush()

    def _take(self, message: dict[str, Any]) -> None:
        if "problem" in message:
            raise UserError(message["problem"])
        path, counts = message["path"], Counter(message["images"])
        with self.lock:
            if self.ended:
                return
            self.report(counts)
            if "done" in message:
                self.done(message["done"])
        if "done" in message:
            del self.open[path]
            self.told.pop(path, None)
            self._feed()
        else:
            self.told.setdefault(path, Counter()).update(counts)

    def _bury(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        self.tries.update(self.open.keys())
        for path in self.open:
            with self.lock:
                self.report({status: -count for status, count in self.told.pop(path, Counter()).items()})
            if self.tries[path] >= _TRIES:
                cause = f"was ended by signal {-code} (out of memory?)" if code < 0 else f"ended with code {code}"
                raise UserError(f"{path}: the process that built it {cause}, twice; lower images.workers and run again")


def main() -> None:
    """Do jobs from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print must not get between the lines
    import cv2

    cv2.setNumThreads(1)
    gc.freeze()  # what is imported stays
    gc.set_threshold(20_000, 20, 50)  # a shard's tasks live long: do not look at them again and again
    config = json.loads(sys.argv[2])
    asyncio.run(_serve(ImagesSection(**config["params"]), Path(config["root"]), config["threads"], answers))


async def _serve(params: ImagesSection, root: Path, threads: int, answers: IO[bytes]) -> None:
    jobs: asyncio.Queue[Job] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for line in sys.stdin.buffer:
            loop.call_soon_threadsafe(jobs.put_nowait, Job(**json.loads(line)))
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    async with Fetcher(params, root, threads=threads) as fetcher:

        async def go_on(_: int) -> None:
            while True:
                await _tell(await jobs.get(), fetcher, answers)

        try:
            await run_all(go_on, range(WINDOW), WINDOW)
        except Exception as error:
            text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            _write(answers, {"problem": text})
            os._exit(0)


async def _tell(job: Job, fetcher: Fetcher, answers: IO[bytes]) -> None:
    """Build a shard and tell of its images a few times a second."""
    counts: Counter[str] = Counter()
    told = time.monotonic()

    def report(status: str) -> None:
        nonlocal told
        counts[status] += 1
        if time.monotonic() - told > _REPORT_S:
            _write(answers, {"path": job.path, "images": counts})
            counts.clear()
            told = time.monotonic()

    try:
        outcome = await build(job, fetcher, report)
    except OSError as error:
        raise UserError(f"{job.path}: {error}") from error
    _write(answers, {"path": job.path, "images": counts, "done": outcome})


def _write(answers: IO[bytes], message: dict[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise OSError("not a pipe")
    return pipe
