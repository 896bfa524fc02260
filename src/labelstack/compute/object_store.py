"""Files of tasks through a bucket, for workers that share no file system with the client.

A file travels as an object named by its SHA-256, so what is there already is not sent again, and a task that runs twice
leaves the same objects. A listing is {path: {file in it: SHA-256}}; a path that is itself a file holds "" as that name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from labelstack.support import storage
from labelstack.support.errors import UserError

Listing = dict[str, dict[str, str]]


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
        self.bucket, prefix = storage.split_s3_url(url)
        self.prefix = prefix.strip("/")
        self._client = storage.s3_client(endpoint_url)
        self._sent: dict[tuple[str, int, int], str] = {}

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
        listing: Listing = {}
        for name in (self.relative(workspace, path) for path in paths):
            place = workspace / name
            files = {"": place} if place.is_file() else {f.relative_to(place).as_posix(): f for f in _files(place)}
            if files:
                listing[name] = {inner: self._send_file(file) for inner, file in sorted(files.items())}
        return listing

    def receive(self, workspace: Path, listing: Listing) -> None:
        """Download files and folders to their places, each whole or not at all."""
        for name, files in listing.items():
            place = workspace / name
            if list(files) == [""]:
                with storage.replacing(place) as temporary:
                    self._fetch(files[""], temporary)
                continue
            with storage.replacing_dir(place) as folder:
                for inner, digest in files.items():
                    (folder / inner).parent.mkdir(parents=True, exist_ok=True)
                    self._fetch(digest, folder / inner)

    def _send_file(self, file: Path) -> str:
        facts = file.stat()
        known = (str(file), facts.st_size, facts.st_mtime_ns)
        if known not in self._sent:
            digest = storage.sha256(file)
            if not self._holds(digest):
                with self._problems():
                    self._client.upload_file(str(file), self.bucket, self._key(digest))
            self._sent[known] = digest
        return self._sent[known]

    def _holds(self, digest: str) -> bool:
        from botocore.exceptions import ClientError

        with self._problems():
            try:
                self._client.head_object(Bucket=self.bucket, Key=self._key(digest))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return False
                raise
        return True

    def _fetch(self, digest: str, file: Path) -> None:
        with self._problems():
            self._client.download_file(self.bucket, self._key(digest), str(file))
        if storage.sha256(file) != digest:
            raise UserError(f"{self.url}: the object {digest} holds other bytes; remove it and run again")

    def _key(self, digest: str) -> str:
        return f"{self.prefix}/{digest[:2]}/{digest}"

    @contextlib.contextmanager
    def _problems(self) -> Any:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise UserError(f"engine.workspace {self.url}: {error}") from None


def run_with_files(content: dict[str, Any], call: Callable[[], Any]) -> dict[str, Any]:
    """On a worker: fetch what a task reads, run it in a folder of its own, send what it wrote.

    What the task before has read is kept while this one reads it too: a model stays, the shards before go.
    """
    store = Store(**content["s3"])
    folder = _scratch()
    kept = _keep(folder, content["reads"])
    store.receive(folder, {name: files for name, files in content["reads"].items() if name not in kept})
    with contextlib.chdir(folder):
        result = call()
    return {"result": result, "files": store.send(folder, content["writes"])}


def _keep(folder: Path, wanted: Listing) -> set[str]:
    """Names in the folder that are as wanted; everything else in it is removed."""
    kept = {
        name
        for name, files in wanted.items()
        if all((folder / name / inner).is_file() and storage.sha256(folder / name / inner) == digest
               for inner, digest in files.items())
    }  # fmt: skip
    needed = {folder / name / inner for name in kept for inner in wanted[name]}
    for file in _files(folder):
        if file not in needed:
            file.unlink()
    return kept


def _scratch() -> Path:
    """A folder of this process beneath the worker's own, which Dask removes with the worker."""
    from distributed import get_worker

    folder = Path(get_worker().local_directory) / f"labelstack-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
