"""The download of a split into shards: what is there already is kept, the rest is shared out among processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelstack.compute.jobs import Map
from labelstack.images.fetching.policy import Policy
from labelstack.images.shards.build import Job, as_task, build_shard, outcome_of, row_keys, settled
from labelstack.images.shards.crew import build_here, build_in_processes
from labelstack.images.shards.shard_files import shard_paths
from labelstack.params.images import ImagesSection
from labelstack.support.cores import cores
from labelstack.support.errors import UserError
from labelstack.support.progress import bar

if TYPE_CHECKING:
    import pandas as pd

_HOSTS_SHOWN = 10
_IMAGES_PER_PROCESS = 1000
_BUDGET_FROM = 200
_LOOKED_AT = 256  # jobs, to choose the number of processes by


class TooManyFailuresError(UserError):
    """More images failed than ``images.max_failures`` allows."""


def download_split(
    manifest: pd.DataFrame,
    out: Path,
    params: ImagesSection,
    root: Path,
    *,
    again: Sequence[str] | None = None,
    refresh: bool = False,
    validators: Path | None = None,
    run: Map | None = None,
) -> dict[str, Any]:
    """Fetch a split's images into ``out/shard-00000.parquet`` and so on; go on where an earlier download stopped.

    Rows that are stored and whose URLs, local files and storage params are unchanged are kept, unless their status may
    change (``timeout``, ``connection``, ``http_429``, ``http_5xx``, ``forbidden``, ``too_large``, ``missing``). An
    interrupted download ends, when run again, with the same files as one that was not interrupted. Web servers are
    taken at their word: what is behind a URL is not asked for again once it is stored, unless ``refresh`` is set.

    Parameters
    ----------
    manifest : DataFrame
        Columns ``image_id`` and ``url`` (list of str).
    out : Path
        The split's folder; files of shards that no longer exist are removed from it.
    params : ImagesSection
    root : Path
        The data set's folder, for ``file:`` URLs.
    again : sequence of str, optional
        Fetch the rows with these statuses (``http_5xx`` takes in all of them), and no others, into a finished download.
    refresh : bool
        Ask web servers whether they have newer versions of stored images. An image is never lost by this.
    validators : Path, optional
        Folder for ETags; without it a refresh fetches everything.
    run : Map, optional
        ``Engine.map`` of a cluster; None: processes of this machine.

    Returns
    -------
    dict
        JSON-able: ``images``, ``ok``, ``bytes`` (stored), ``status`` (counts) and ``failures_by_host`` (at most ten,
        by the first URL of each image); with ``again`` or ``refresh`` also ``asked`` (outcomes, counted) and
        ``written`` (names of the files that changed).

    Raises
    ------
    TooManyFailuresError
        As soon as it is clear (from 200 images and a hundredth of them on) that more than ``images.max_failures``
        fail; finished shards are kept.
    UserError
        When images of a damaged shard can't be fetched again, or ``again`` or ``refresh`` meet a download that is not
        finished.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    repeat = again is not None or refresh
    jobs = _jobs(manifest, out, params, [] if refresh and again is None else again, refresh, validators)
    for stale in {*out.glob(".shard-*"), *shard_paths(out)} - {Path(job.path) for job in jobs}:
        stale.unlink()
    tally = Tally(len(manifest), params.max_failures)
    policy = Policy(params, root)
    with bar(total=len(manifest), desc=f"download {out.name}", unit="img") as progress:

        def report(counts: Mapping[str, int]) -> None:
            progress.update(sum(counts.values()))
            tally.report(counts)

        def pending() -> Iterator[Job]:
            for job in jobs:
                found = settled(job, row_keys(job, params, policy), verify=params.verify != "none")
                if found is None:
                    yield _finished(job, params, policy) if repeat else job
                else:
                    tally.add(outcome_of(job, found.status, found.bytes))
                    report(Counter(found.status))

        _build(pending(), params, Path(root), report, tally.add, run)
    return tally.summary(repeat)


class Tally:
    """Counts over shards, so that no shard need stay in memory, and a watch on the budget of failures."""

    def __init__(self, images: int, max_failures: float = 1.0) -> None:
        self.images = images
        self.max_failures = max_failures
        self.settled: Counter[str] = Counter()
        self.status: Counter[str] = Counter()
        self.hosts: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.written: list[str] = []
        self.bytes = 0

    def report(self, counts: Mapping[str, int]) -> None:
        """Count images whose status is known, of unfinished shards too; raise when too many have failed."""
        self.settled.update(counts)
        total = self.settled.total()
        failed = total - self.settled["ok"]
        if total >= max(_BUDGET_FROM, self.images // 100) and failed > self.max_failures * total:
            worst = ", ".join(f"{count} {status}" for status, count in self.settled.most_common(6) if status != "ok")
            raise TooManyFailuresError(
                f"{failed} of the first {total} images failed ({worst}), more than images.max_failures = "
                f"{self.max_failures:g} allows. Finished shards are kept: mend the cause, or raise images.max_failures "
                "in params.yaml, and run the download again."
            )

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Count a finished shard."""
        self.status.update(outcome["status"])
        self.hosts.update(outcome["hosts"])
        self.asked.update(outcome["asked"])
        self.bytes += outcome["bytes"]
        if outcome["written"]:
            self.written.append(Path(outcome["path"]).name)

    def summary(self, repeat: bool = False) -> dict[str, Any]:
        """What ``download_split`` returns."""
        worst = sorted(self.hosts.items(), key=lambda item: (-item[1], item[0]))
        found = {
            "images": self.status.total(),
            "ok": self.status["ok"],
            "bytes": self.bytes,
            "status": {name: count for name, count in sorted(self.status.items()) if count},
            "failures_by_host": dict(worst[:_HOSTS_SHOWN]),
        }
        return found | {"asked": dict(sorted(self.asked.items())), "written": sorted(self.written)} if repeat else found


def _jobs(
    manifest: pd.DataFrame,
    out: Path,
    params: ImagesSection,
    again: Sequence[str] | None,
    refresh: bool,
    validators: Path | None,
) -> list[Job]:
    ids = manifest["image_id"].to_numpy(np.int64)
    urls = [list(entry) if entry is not None else [] for entry in manifest["url"]]
    jobs = []
    for number, start in enumerate(range(0, len(ids), params.shard_rows)):
        name, rows = f"shard-{number:05d}.parquet", slice(start, start + params.shard_rows)
        side = None if validators is None else str(validators / name)
        patterns = None if again is None else list(again)
        jobs.append(Job(str(out / name), ids[rows].tolist(), urls[rows], patterns, refresh, side))
    return jobs


def _finished(job: Job, params: ImagesSection, policy: Policy) -> Job:
    everything = Job(job.path, job.image_id, job.urls, again=[])
    if settled(everything, row_keys(job, params, policy), verify=params.verify != "none") is None:
        raise UserError(
            f"{job.path}: absent, damaged, or made from other rows or params; run `labelstack stage download` first"
        )
    return job


def _build(
    jobs: Iterator[Job],
    params: ImagesSection,
    root: Path,
    report: Callable[[Mapping[str, int]], None],
    done: Callable[[Mapping[str, Any]], None],
    run: Map | None,
) -> None:
    """Build shards on the cluster, in processes, or here when there are few."""
    if run is not None:
        tasks = [as_task(job, params, root) for job in jobs]
        for outcome in run(build_shard, tasks, writes=lambda task: [task["path"]], reads=lambda task: [task["path"]]):
            report(outcome["status"])
            done(outcome)
        return
    first = list(islice(jobs, _LOOKED_AT))
    images = sum(len(job.image_id) for job in first)
    most = min(params.workers or cores(), params.concurrency, params.concurrency_per_host, len(first))
    processes = most if params.workers else min(most, max(1, images // _IMAGES_PER_PROCESS))
    if processes > 1:
        build_in_processes(chain(first, jobs), params, root, processes, report, done)
    elif first:
        build_here(chain(first, jobs), params, root, report, done)
