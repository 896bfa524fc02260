"""Processes that build shards: each asks for jobs over a pipe and tells of images and of finished shards.

A process whose parent has gone meets the end of its pipe and ends at once, in the middle of a shard too. The jobs of
one that died are done again by another.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import chain
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import cv2

from labelstack.images.fetching.fetch import Fetcher
from labelstack.images.shards.build import Job, build, run_all
from labelstack.params.images import ImagesSection
from labelstack.support.cores import cores
from labelstack.support.errors import UserError

WINDOW = 2
_TRIES = 2
_REPORT_S = 0.25
_SPAWN = multiprocessing.get_context("spawn")

Report = Callable[[Mapping[str, int]], None]
Done = Callable[[dict[str, Any]], None]


def build_here(jobs: Iterator[Job], params: ImagesSection, root: Path, report: Report, done: Done) -> None:
    """Build shards in this process, a few at a time, so that slow rows of one do not idle the next."""

    async def take() -> Job | None:
        return next(jobs, None)

    asyncio.run(_build_all(take, Fetcher(params, root, threads=cores()), lambda status: report({status: 1}), done))


async def _build_all(
    take: Callable[[], Awaitable[Job | None]], fetcher: Fetcher, report: Callable[[str], None], done: Done
) -> None:
    async def go_on(_: int) -> None:
        while job := await take():
            try:
                outcome = await build(job, fetcher, report)
            except OSError as error:
                raise UserError(f"{job.path}: {error}") from error
            done(outcome)

    async with fetcher:
        await run_all(go_on, range(WINDOW), WINDOW)


def build_in_processes(
    jobs: Iterator[Job], params: ImagesSection, root: Path, processes: int, report: Report, done: Done
) -> None:
    """Build shards in ``processes`` processes, which share the limits of ``params`` out among them.

    An error, of ``report`` and ``done`` too, ends all processes.

    Raises
    ------
    UserError
        When a process reports one, or two died on the same shard.
    """
    crew: dict[Any, _Member] = {}
    tries: Counter[str] = Counter()
    limits = {name: getattr(params, name) for name in ("concurrency", "concurrency_per_host")}
    shares = [
        params.model_copy(update={name: (limit + number) // processes for name, limit in limits.items()})
        for number in range(processes)
    ]
    try:
        while crew or shares:
            while shares:
                member = _Member(shares.pop(), root, max(1, cores() // processes))
                crew[member.pipe] = member
            for pipe in wait(list(crew)):
                member = crew[pipe]
                try:
                    message = member.pipe.recv()
                except (EOFError, OSError):
                    code = crew.pop(pipe).end(patience=10)
                    report({status: -count for status, count in member.told.items()})
                    tries.update(list(member.open) or ["a shard"])
                    for path in member.open or ["a shard"]:
                        if tries[path] >= _TRIES:
                            raise UserError(_obituary(path, code)) from None
                    jobs = chain(member.open.values(), jobs)
                    shares.append(member.share)
                    continue
                if isinstance(message, UserError):
                    raise message
                if message is not None:
                    counts, outcome = message
                    report(counts)
                    member.told.update(counts)
                    if outcome is not None:
                        done(outcome)
                        member.told.subtract(outcome["status"])
                        del member.open[outcome["path"]]
                elif job := next(jobs, None):
                    member.open[job.path] = job
                    with contextlib.suppress(OSError):  # it has died, as the end of its pipe will tell
                        member.pipe.send(job)
                elif not member.open:
                    crew.pop(pipe).end()
    finally:
        for member in crew.values():
            member.end()


class _Member:
    """One process, the jobs that it has in hand, and what it told of their images."""

    def __init__(self, share: ImagesSection, root: Path, threads: int) -> None:
        self.share = share
        self.open: dict[str, Job] = {}
        self.told: Counter[str] = Counter()
        self.pipe, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_work, args=(theirs, share, root, threads), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is the end of the pipe

    def end(self, patience: float = 0) -> int:
        """End the process, whatever it does, after so many seconds; its exit code."""
        self.process.join(patience)
        self.process.kill()
        self.process.join()
        self.pipe.close()
        return self.process.exitcode or 0


def _obituary(path: str, code: int) -> str:
    cause = f"was ended by signal {-code} (out of memory?)" if code < 0 else f"ended with code {code}"
    return f"{path}: the process that built it {cause}, twice; lower images.workers and run again"


def _work(pipe: Connection, params: ImagesSection, root: Path, threads: int) -> None:
    """Do jobs from the pipe until it ends, asking for each; tell of images a few times a second."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    cv2.setNumThreads(1)
    gc.freeze()  # what is imported stays
    gc.set_threshold(20_000, 20, 50)  # a shard's tasks live long: do not look at them again and again
    jobs: asyncio.Queue[Job] = asyncio.Queue()
    counts: Counter[str] = Counter()
    told = time.monotonic()

    def listen(loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                loop.call_soon_threadsafe(jobs.put_nowait, pipe.recv())
        os._exit(0)

    def tell(outcome: dict[str, Any] | None = None) -> None:
        nonlocal told
        pipe.send((counts, outcome))
        counts.clear()
        told = time.monotonic()

    def report(status: str) -> None:
        counts[status] += 1
        if time.monotonic() - told > _REPORT_S:
            tell()

    async def take() -> Job:
        pipe.send(None)
        return await jobs.get()

    async def work() -> None:
        threading.Thread(target=listen, args=[asyncio.get_running_loop()], daemon=True).start()
        await _build_all(take, Fetcher(params, root, threads=threads), report, tell)

    try:
        asyncio.run(work())
    except Exception as error:
        pipe.send(UserError(str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"))
