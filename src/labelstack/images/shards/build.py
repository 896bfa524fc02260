"""One shard, from manifest rows to a file: what can be kept is kept, the rest is fetched and normalised."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from labelstack.images.fetching.fetch import Fetched, Fetcher
from labelstack.images.fetching.policy import Policy
from labelstack.images.fetching.retries import is_lasting
from labelstack.images.fetching.status import RefusedError, matches
from labelstack.images.fetching.urls import host_of
from labelstack.images.fetching.validators import Known, content_digest, read_validators, write_validators
from labelstack.images.pixels.budget import Budget
from labelstack.images.pixels.decode import to_stored_jpeg
from labelstack.images.shards.shard_files import (
    Overview,
    Shard,
    is_damaged,
    read_overview,
    read_shard,
    write_shard,
)
from labelstack.params.images import ImagesSection
from labelstack.support.errors import UserError

_logger = logging.getLogger(__name__)
_VERSION = 2
_AT_ONCE = 2048
T = TypeVar("T")
Stored = Fetched[tuple[bytes, int, int]]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What one shard is made from, in JSON's types.

    Attributes
    ----------
    path : str
        The shard's file; rows that are in it already and made from the same are kept.
    image_id : list of int
    urls : list of list of str
    again : list of str, optional
        Statuses whose rows are asked for again, see ``status.matches``; None: all that may have changed.
    refresh : bool
        Ask web servers for newer versions of stored images; an image is never lost by it.
    validators : str, optional
        File for the servers' words about versions.
    """

    path: str
    image_id: list[int]
    urls: list[list[str]]
    again: list[str] | None = None
    refresh: bool = False
    validators: str | None = None

    def wants(self, row: int, status: str) -> bool:
        """Whether a row with this status is to be fetched again."""
        if self.refresh and status == "ok" and any(url[:4].lower() == "http" for url in self.urls[row]):
            return True
        return not is_lasting(status) if self.again is None else matches(status, self.again)


def build_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Build one shard in this process; a task for ``Engine.map``.

    Parameters
    ----------
    job : dict
        The fields of ``Job``, with ``params`` (section ``images``) and ``root`` (the data set's folder) besides.

    Returns
    -------
    dict
        See ``build``.
    """
    fields = {name: value for name, value in job.items() if name not in {"params", "root"}}

    async def alone() -> dict[str, Any]:
        async with Fetcher(ImagesSection(**job["params"]), Path(job["root"]), threads=2) as fetcher:
            return await build(Job(**fields), fetcher)

    return asyncio.run(alone())


def as_task(job: Job, params: ImagesSection, root: Path) -> dict[str, Any]:
    """A job as the argument of ``build_shard``."""
    return {**asdict(job), "params": params.model_dump(mode="json"), "root": str(root)}


async def run_all(work: Callable[[T], Coroutine[Any, Any, None]], items: Iterable[T], at_once: int) -> None:
    """Do the work for all items, so many at a time; the first error ends it."""
    rest = iter(items)

    async def go_on() -> None:
        for item in rest:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(go_on())
    except ExceptionGroup as errors:
        raise errors.exceptions[0]  # noqa: B904  (its own cause stays)


async def build(job: Job, fetcher: Fetcher, report: Report = lambda status: None) -> dict[str, Any]:
    """Write the shard unless it is as it should be.

    Parameters
    ----------
    job : Job
    fetcher : Fetcher
    report : callable
        Called with the status of every row, once it is known.

    Returns
    -------
    dict
        ``path``, ``status`` (counts), ``bytes`` (stored), ``hosts`` (failures by the host of the first URL),
        ``written`` (whether the file changed) and ``asked`` (outcomes of the rows that were fetched, counted).

    Raises
    ------
    UserError
        When a damaged shard held images that can't be fetched again; the file stays as it is.
    """
    keys = row_keys(job, fetcher.params, fetcher.policy)
    before, lost = read_overview(job.path), None
    if before is not None and fetcher.params.verify != "none" and await asyncio.to_thread(is_damaged, job.path):
        _logger.warning("%s: damaged, not what was stored: its images are fetched again", job.path)
        before, lost = None, before
    kept = {} if before is None else await asyncio.to_thread(_kept_rows, job, before, keys)
    known = read_validators(Path(job.validators)) if job.validators and kept else {}
    rows = [kept.get(row) for row in range(len(keys))]
    wanted = [row for row, stored in enumerate(rows) if stored is None or job.wants(row, stored.status)]
    for row in set(range(len(rows))).difference(wanted):
        report(rows[row].status)  # type: ignore[union-attr]
    params = fetcher.params
    accept = partial(
        to_stored_jpeg,
        store_size=params.store_size,
        quality=params.jpeg_quality,
        damaged=params.damaged,
        allowed=Budget.of(params),
    )
    asked: Counter[str] = Counter()

    async def fill(row: int) -> None:
        old, version = rows[row], known.get(job.image_id[row])
        image = None if old is None or old.content is None else old.content[0]
        valid = version is not None and image is not None and version.content == content_digest(image)
        outcome = await fetcher.fetch(job.urls[row], accept, version.validator if version and valid else None)
        asked[outcome.status] += 1
        if outcome.validator and outcome.content:
            known[job.image_id[row]] = Known(content_digest(outcome.content[0]), outcome.validator)
        lost = image is not None and outcome.content is None
        if old is None or not (lost or (outcome.status, outcome.content) == (old.status, old.content)):
            rows[row] = Stored(outcome.status, outcome.content)
        report(rows[row].status)  # type: ignore[union-attr]

    await run_all(fill, wanted, min(len(wanted), _AT_ONCE))
    final = [row for row in rows if row is not None]
    if lost is not None:
        _nothing_lost(job, lost, keys, final)
    written = before is None or before.keys != keys or any(row is not kept[i] for i, row in enumerate(final))
    if written:
        await asyncio.to_thread(write_shard, Path(job.path), _shard(job, final), keys)
    if job.validators and known:
        write_validators(Path(job.validators), known)  # after the shard: a kill in between costs traffic, not images
    stored = sum(len(row.content[0]) for row in final if row.content)
    return {**outcome_of(job, [row.status for row in final], stored), "written": written, "asked": asked}


def outcome_of(job: Job, statuses: list[str], stored: int) -> dict[str, Any]:
    """What ``build`` tells about a shard that needs no work."""
    failed = (urls for urls, status in zip(job.urls, statuses, strict=True) if status != "ok")
    hosts = Counter(host_of(urls[0]) if urls else "(no url)" for urls in failed)
    return {
        "path": job.path,
        "status": Counter(statuses),
        "bytes": stored,
        "hosts": hosts,
        "written": False,
        "asked": {},
    }


def settled(job: Job, keys: list[str], *, verify: bool = False) -> Overview | None:
    """The shard's overview when it is made from this job and no row is to be fetched, else None.

    With ``verify`` also None when it is not what was stored, see ``is_damaged``.
    """
    found = read_overview(job.path)
    if found is None or found.keys != keys or found.image_id != job.image_id:
        return None
    if any(job.wants(row, status) for row, status in enumerate(found.status)):
        return None
    return None if verify and is_damaged(job.path) else found


def row_keys(job: Job, params: ImagesSection, policy: Policy) -> list[str]:
    """Identity of what each row is made from: id, URLs, bytes behind file URLs, and how images are stored."""
    stored = f"{_VERSION} {params.store_size} {params.jpeg_quality} "
    if params.damaged != "refuse":  # said only then, so that what older versions stored is still known by its key
        stored += f"{params.damaged} "
    salt = hashlib.blake2b(stored.encode(), digest_size=9)
    keys = []
    for image_id, urls in zip(job.image_id, job.urls, strict=True):
        local = [_file_digest(policy, url, params.max_bytes) for url in urls if url[:5].lower() == "file:"]
        digest = salt.copy()
        digest.update(json.dumps([image_id, urls, local], separators=(",", ":")).encode())
        keys.append(b64encode(digest.digest()).decode())
    return keys


def _nothing_lost(job: Job, before: Overview, keys: list[str], rows: list[Stored]) -> None:
    """Raise ``UserError`` unless every image of a damaged shard was fetched again."""
    there = {key for key, status in zip(before.keys, before.status, strict=True) if status == "ok"}
    gone = Counter(row.status for key, row in zip(keys, rows, strict=True) if key in there and row.content is None)
    if gone:
        said = ", ".join(f"{count} {status}" for status, count in sorted(gone.items()))
        raise UserError(
            f"{job.path}: damaged, not what was stored, and {gone.total()} of its images can't be fetched again "
            f"({said}). The file is left as it is: put it back (`dvc checkout --force {Path(job.path).parent}`, or a "
            "copy), or delete it to go on without these images"
        )


def _kept_rows(job: Job, before: Overview, keys: list[str]) -> dict[int, Stored]:
    """Rows of the job that the file holds already, wherever in it they stand."""
    place = {key: row for row, key in enumerate(before.keys)}
    same = {row: place[key] for row, key in enumerate(keys) if key in place}
    if not same:
        return {}
    shard = read_shard(job.path)
    found = {}
    for row, old in same.items():
        data = shard.bytes[old]
        content = None if data is None else (data, int(shard.width[old]), int(shard.height[old]))
        found[row] = Stored(shard.status[old], content)
    return found


def _shard(job: Job, rows: list[Stored]) -> Shard:
    content = [row.content or (None, 0, 0) for row in rows]
    return Shard(
        np.array(job.image_id, np.int64),
        [data for data, _, _ in content],
        [row.status for row in rows],
        np.array([width for _, width, _ in content], np.int32),
        np.array([height for _, _, height in content], np.int32),
    )


def _file_digest(policy: Policy, url: str, max_bytes: int) -> str:
    try:
        path = policy.local_path(url)
        if path is None or not path.is_file() or path.stat().st_size > max_bytes:
            return ""
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except (OSError, RefusedError):
        return ""
