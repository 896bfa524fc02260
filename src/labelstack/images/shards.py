"""Shards: parquet files of image bytes with a status per row, in the manifest's order, and the download into them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelstack.errors import UserError
from labelstack.images.decode import to_stored_jpeg
from labelstack.images.fetch import Fetched, Fetcher
from labelstack.images.policy import Policy, host_of
from labelstack.images.status import is_lasting
from labelstack.params import Images
from labelstack.progress import bar
from labelstack.storage import replacing

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("bytes", pa.binary()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
    ]
)
DIGEST_KEY = b"labelstack.digest"
_VERSION = 1
_IN_FLIGHT = 2
_HOSTS_SHOWN = 10

Stored = Fetched[tuple[bytes, int, int]]


@dataclass(frozen=True)
class Shard:
    """The rows of one file; where ``status`` is not ``ok``, bytes are None and width and height 0."""

    image_id: NDArray[np.int64]
    bytes: list[bytes | None]
    status: list[str]
    width: NDArray[np.int32]
    height: NDArray[np.int32]


def shard_paths(folder: str | Path) -> list[Path]:
    """The shards of a split in the manifest's order."""
    return sorted(Path(folder).glob("shard-*.parquet"))


def read_shard(path: str | Path) -> Shard:
    """Read one shard whole."""
    table = _read(path, SCHEMA.names)
    return Shard(
        table["image_id"].to_numpy(),
        table["bytes"].to_pylist(),
        table["status"].to_pylist(),
        table["width"].to_numpy(),
        table["height"].to_numpy(),
    )


def status_frame(path: str | Path) -> pd.DataFrame:
    """Image id, status, width and height of every image, without the bytes, in the manifest's order.

    Parameters
    ----------
    path : str or Path
        A split's folder, or one shard.
    """
    columns = ["image_id", "status", "width", "height"]
    paths = shard_paths(path) if Path(path).is_dir() else [Path(path)]
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    tables = [_read(shard, columns).cast(schema) for shard in paths]
    frame: pd.DataFrame = pa.concat_tables(tables or [schema.empty_table()]).to_pandas()
    return frame


def ok_ids(folder: str | Path) -> NDArray[np.int64]:
    """Ids of the images that are there, in the manifest's order."""
    frame = status_frame(folder)
    return np.asarray(frame.loc[frame["status"] == "ok", "image_id"], np.int64)


def images_by_id(folder: str | Path, image_ids: NDArray[np.int64]) -> dict[int, bytes]:
    """Stored JPEGs of some images; those without one are left out."""
    found: dict[int, bytes] = {}
    for path in shard_paths(folder):
        ids = status_frame(path)["image_id"].to_numpy()
        if np.isin(ids, image_ids).any():
            shard = read_shard(path)
            for row in np.flatnonzero(np.isin(shard.image_id, image_ids)):
                if (data := shard.bytes[row]) is not None:
                    found[int(shard.image_id[row])] = data
    return found


def download_split(manifest: pd.DataFrame, out: Path, params: Images, root: Path) -> dict[str, Any]:
    """Fetch a split's images into ``out/shard-00000.parquet`` and so on; go on where an earlier download stopped.

    A shard whose rows, URLs, local files and storage params are unchanged is kept; of it only the rows are asked for
    again whose status may change (``timeout``, ``connection``, ``http_429``, ``http_5xx``, ``forbidden``,
    ``too_large``, ``missing``). An interrupted download ends, when run again, with the same files as one that was not
    interrupted. Web servers are taken at their word: what is behind a URL is not asked for again once it is stored.

    Parameters
    ----------
    manifest : DataFrame
        Columns ``image_id`` and ``url`` (list of str).
    out : Path
        The split's folder; files of shards that no longer exist are removed from it.
    params : Images
    root : Path
        The data set's folder, for ``file:`` URLs.

    Returns
    -------
    dict
        JSON-able: ``images``, ``ok``, ``bytes`` (stored), ``status`` (counts) and ``failures_by_host`` (at most ten,
        by the first URL of each image).
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    ids = manifest["image_id"].to_numpy(np.int64)
    urls = [list(entry) if entry is not None else [] for entry in manifest["url"]]
    starts = range(0, len(ids), params.shard_rows)
    paths = [out / f"shard-{number:05d}.parquet" for number in range(len(starts))]
    for stale in {*out.glob(".shard-*"), *shard_paths(out)} - set(paths):
        stale.unlink()
    tally = _Tally()
    with bar(total=len(ids), desc=f"download {out.name}", unit="img") as progress, Fetcher(params, root) as fetcher:
        download = _Download(params, fetcher, progress.update)
        jobs = (
            _Job(path, ids[start : start + params.shard_rows], urls[start : start + params.shard_rows])
            for path, start in zip(paths, starts, strict=True)
        )
        for job, shard in download.run(jobs):
            tally.add(shard, job.urls)
    return tally.summary()


@dataclass(frozen=True)
class _Job:
    path: Path
    image_id: NDArray[np.int64]
    urls: list[list[str]]


class _Download:
    """Fetches and normalises in threads, a few shards at a time, so that slow rows of one do not idle the next."""

    def __init__(self, params: Images, fetcher: Fetcher, on_images: Callable[[int], Any]) -> None:
        self.params = params
        self.fetcher = fetcher
        self.on_images = on_images
        self.lock = threading.Lock()

    def run(self, jobs: Iterator[_Job]) -> Iterator[tuple[_Job, Shard]]:
        flying: deque[tuple[_Job, str, Shard | None, dict[int, Future[Stored]]]] = deque()
        with ThreadPoolExecutor(self.params.concurrency, thread_name_prefix="fetch") as threads:
            try:
                for job in jobs:
                    flying.append(self._start(job, threads))
                    if len(flying) >= _IN_FLIGHT:
                        yield self._finish(*flying.popleft())
                while flying:
                    yield self._finish(*flying.popleft())
            except BaseException:
                self.fetcher.stop()
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _start(
        self, job: _Job, threads: ThreadPoolExecutor
    ) -> tuple[_Job, str, Shard | None, dict[int, Future[Stored]]]:
        digest = _digest(job, self.params, self.fetcher.policy)
        kept = read_shard(job.path) if _stored_digest(job.path) == digest else None
        wanted = [row for row in range(len(job.image_id)) if kept is None or not is_lasting(kept.status[row])]
        self._report(len(job.image_id) - len(wanted))
        return job, digest, kept, {row: threads.submit(self._image, job.urls[row]) for row in wanted}

    def _image(self, urls: list[str]) -> Stored:
        store_size, quality = self.params.store_size, self.params.jpeg_quality
        fetched = self.fetcher.fetch_bytes(urls, lambda data: to_stored_jpeg(data, store_size, quality))
        self._report(1)
        return fetched

    def _report(self, images: int) -> None:
        with self.lock:
            self.on_images(images)

    def _finish(
        self, job: _Job, digest: str, kept: Shard | None, futures: dict[int, Future[Stored]]
    ) -> tuple[_Job, Shard]:
        results = {row: future.result() for row, future in futures.items()}
        if kept is not None and all(results[row].status == kept.status[row] for row in results):
            return job, kept
        before = [] if kept is None else _rows(kept)
        rows = [results[row] if row in results else before[row] for row in range(len(job.image_id))]
        content = [row.content or (None, 0, 0) for row in rows]
        shard = Shard(
            job.image_id,
            [data for data, _, _ in content],
            [row.status for row in rows],
            np.array([width for _, width, _ in content], np.int32),
            np.array([height for _, _, height in content], np.int32),
        )
        _write(job.path, shard, digest)
        return job, shard


class _Tally:
    """Counts over shards, so that no shard need stay in memory."""

    def __init__(self) -> None:
        self.status: Counter[str] = Counter()
        self.hosts: Counter[str] = Counter()
        self.bytes = 0

    def add(self, shard: Shard, urls: list[list[str]]) -> None:
        self.status.update(shard.status)
        self.bytes += sum(len(data) for data in shard.bytes if data is not None)
        failed = (entry for entry, status in zip(urls, shard.status, strict=True) if status != "ok")
        self.hosts.update(host_of(entry[0]) if entry else "(no url)" for entry in failed)

    def summary(self) -> dict[str, Any]:
        worst = sorted(self.hosts.items(), key=lambda item: (-item[1], item[0]))
        return {
            "images": self.status.total(),
            "ok": self.status["ok"],
            "bytes": self.bytes,
            "status": {name: count for name, count in sorted(self.status.items()) if count},
            "failures_by_host": dict(worst[:_HOSTS_SHOWN]),
        }


def _rows(shard: Shard) -> list[Stored]:
    content = zip(shard.bytes, shard.width.tolist(), shard.height.tolist(), strict=True)
    return [
        Stored(status, None if data is None else (data, width, height))
        for status, (data, width, height) in zip(shard.status, content, strict=True)
    ]


def _digest(job: _Job, params: Images, policy: Policy) -> str:
    """Identity of a shard's input: ids, URLs, the bytes behind file URLs, and how images are stored."""
    local = [_file_digest(policy.local_path(url), params.max_bytes) for urls in job.urls for url in urls if _local(url)]
    content = [_VERSION, params.store_size, params.jpeg_quality, job.image_id.tolist(), job.urls, local]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _local(url: str) -> bool:
    return url[:5].lower() == "file:"


def _file_digest(path: Path | None, max_bytes: int) -> str:
    try:
        if path is None or not path.is_file() or path.stat().st_size > max_bytes:
            return ""
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""


def _stored_digest(path: Path) -> str | None:
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    return str(metadata.get(DIGEST_KEY, b"").decode())


def _write(path: Path, shard: Shard, digest: str) -> None:
    table = pa.table(
        [shard.image_id, pa.array(shard.bytes, pa.binary()), shard.status, shard.width, shard.height],
        schema=SCHEMA.with_metadata({DIGEST_KEY: digest.encode()}),
    )
    with replacing(path) as temporary:
        pq.write_table(
            table, temporary, compression="none", use_dictionary=["status"], write_statistics=["image_id", "status"]
        )


def _read(path: str | Path, columns: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"{path}: not a complete shard ({error}); run the download again") from None
