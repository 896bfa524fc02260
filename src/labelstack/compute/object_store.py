"""Files of tasks through a bucket, for workers that share no file system with the client.

A file travels as an object named by its SHA-256, so what is there already is not sent again, and a task that runs twice
leaves the same objects. A listing is {path: {file in it: SHA-256}}; a path that is itself a file has "." in it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from aiohttp import ClientError
from botocore.exceptions import BotoCoreError
from s3fs import S3FileSystem

from labelstack.support import storage
from labelstack.support.errors import UserError

Listing = dict[str, dict[str, str]]
_AT_ONCE = 8  # files; those below 100 MB are read as a whole before they are sent


class Store:
    """Objects below ``s3://bucket/prefix``.

    Parameters
    ----------
    url : str
    endpoint_url : str or None
        Of a server other than AWS.
    """

    def __init__(self, url: str, endpoint_url: str | None) -> None:
        self.url, self.endpoint_url = url, endpoint_url
        # Both ends compare SHA-256: S3's own checksums, which some servers refuse, would add nothing.
        config = storage.WITHOUT_CHECKSUMS
        self._s3 = S3FileSystem(endpoint_url=endpoint_url, config_kwargs=config, use_listings_cache=False)
        self._digests: dict[tuple[str, int, int], str] = {}
        self._there: set[str] = set()

    def describe(self) -> dict[str, str | None]:
        """What a worker needs to reach the same store; credentials come from its own surroundings."""
        return {"url": self.url, "endpoint_url": self.endpoint_url}

    def relative(self, workspace: Path, path: str | Path) -> str:
        """A path of a job as both sides name it; raise ``UserError`` for one outside the workspace."""
        place = Path(os.path.abspath(workspace / path))
        if not place.is_relative_to(workspace):
            raise UserError(
                f"{place}: outside of {workspace}, so it cannot be sent through engine.workspace {self.url}"
            )
        return place.relative_to(workspace).as_posix()

    def send(self, workspace: Path, paths: Iterable[str | Path]) -> Listing:
        """Upload files and folders, those that the bucket lacks; paths that do not exist are left out."""
        listing = {name: self._listing(workspace / name) for name in (self.relative(workspace, path) for path in paths)}
        files = {digest: workspace / name / inner for name in listing for inner, digest in listing[name].items()}
        with self._problems():
            lacking = [d for d in files if d not in self._there and not self._s3.exists(self._key(d))]
            self._s3.put([str(files[d]) for d in lacking], [self._key(d) for d in lacking], batch_size=_AT_ONCE)
        self._there.update(files)
        return {name: inner for name, inner in listing.items() if inner}

    def receive(self, workspace: Path, listing: Listing) -> None:
        """Download files and folders to their places, each whole or not at all; those that are there stay."""
        for name, files in listing.items():
            if self._listing(workspace / name) == files:
                continue
            replacing = storage.replacing if "." in files else storage.replacing_dir
            with replacing(workspace / name) as place, self._problems():
                here = [str(place / inner) for inner in files]
                self._s3.get([self._key(d) for d in files.values()], here, batch_size=_AT_ONCE)
                for inner, digest in files.items():
                    if storage.sha256(place / inner) != digest:
                        raise UserError(f"{self.url}: the object {digest} holds other bytes; remove it and run again")

    def _listing(self, place: Path) -> dict[str, str]:
        return {file.relative_to(place).as_posix(): self._digest(file) for file in _files(place)}

    def _digest(self, file: Path) -> str:
        facts = file.stat()
        known = (str(file), facts.st_size, facts.st_mtime_ns)
        if known not in self._digests:
            self._digests[known] = storage.sha256(file)
        return self._digests[known]

    def _key(self, digest: str) -> str:
        return f"{self.url.rstrip('/')}/{digest[:2]}/{digest}"

    @contextlib.contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, OSError) as error:
            if isinstance(error, OSError) and error.errno and not error.__cause__:  # of this machine's disk
                raise
            raise UserError(
                f"engine.workspace {self.url}: {error} (is the bucket there, and may the AWS credentials here use it?)"
            ) from None


def run_with_files(content: dict[str, Any], call: Callable[[], Any]) -> dict[str, Any]:
    """On a worker: fetch what a task reads, run it in a folder of its own, send what it wrote.

    What the task before has read is kept while this one reads it too: a model stays, the shards before go.
    """
    store = Store(**content["s3"])
    folder = _scratch()
    for file in _files(folder):
        if not any(file.is_relative_to(folder / name) for name in content["reads"]):
            file.unlink()
    store.receive(folder, content["reads"])
    with contextlib.chdir(folder):
        result = call()
    return {"result": result, "files": store.send(folder, content["writes"])}


def _scratch() -> Path:
    """A folder of this process beneath the worker's own, which Dask removes with the worker."""
    from distributed import get_worker

    folder = Path(get_worker().local_directory) / f"labelstack-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
