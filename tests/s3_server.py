"""S3 over HTTP for tests: a moto server, and a proxy before it that fails requests, enforces a policy and counts.

Whether a request fails depends on the seed, the request and how often it was seen before, not on the order in which
requests arrive: a repeated test meets the same failures.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import functools
import hashlib
import json
import os
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "secret/of+the/test0123456789ABCDEFGHIJKL",
    "AWS_DEFAULT_REGION": "us-east-1",
}
BUCKET = "bucket"
FAULTS = ("500", "503", "reset", "cut", "lost")
"""500; 503 SlowDown; reset before the work, in the middle of a body, and after the work but before the answer."""

_PIECE = 65536
_ERRORS = {"403": ("403", "AccessDenied"), "500": ("500", "InternalError"), "503": ("503", "SlowDown")}


@contextlib.contextmanager
def s3_server(bucket: str | None = BUCKET) -> Iterator[str]:
    """The address of a moto server with one empty bucket, or none; it takes any credentials.

    It is the same server for all tests of a process, which would share their objects anyway: to end one takes long.
    """
    url = _server()
    _reset(url)
    if bucket:
        client(url).create_bucket(Bucket=bucket)
    yield url


@functools.cache
def _server() -> str:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def client(url: str) -> Any:
    """A boto3 client of a test server."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=url, **keys)


def objects(url: str, bucket: str = BUCKET, prefix: str = "") -> dict[str, bytes]:
    """Every object below a prefix, by key."""
    s3 = client(url)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def _reset(url: str) -> None:
    """Drop what another test left."""
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).read()


@dataclass(frozen=True)
class Request:
    """One request as the proxy saw it; ``fault`` is "" for one that was served, "403" for one denied."""

    method: str
    target: str
    action: str
    resource: str
    prefix: str | None
    fault: str
    body: int

    @property
    def key(self) -> str:
        return self.resource.partition("/")[2]


def parse(method: str, target: str) -> tuple[str, str, str | None]:
    """The IAM action, ``bucket/key`` and (for listings) the prefix of a path-style request."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    if not bucket:
        return "s3:ListAllMyBuckets", "", None
    if key:
        upload = "uploadId" in query
        action = {
            "GET": "ListMultipartUploadParts" if upload else "GetObject",
            "HEAD": "GetObject",
            "DELETE": "AbortMultipartUpload" if upload else "DeleteObject",
        }.get(method, "PutObject")
        return f"s3:{action}", f"{bucket}/{key}", None
    if method == "PUT":
        return ("s3:PutBucketPublicAccessBlock" if "publicAccessBlock" in query else "s3:CreateBucket"), bucket, None
    if method == "POST":
        return "s3:DeleteObject", f"{bucket}/*", None
    if "location" in query:
        return "s3:GetBucketLocation", bucket, None
    return "s3:ListBucket", bucket, query.get("prefix", [None])[0]


def allowed(policy: dict[str, Any], action: str, resource: str, prefix: str | None) -> bool:
    """Whether an IAM policy of Allow statements grants an action; knows the condition StringLike on s3:prefix."""
    for statement in policy["Statement"]:
        resources = statement["Resource"]
        resources = [resources] if isinstance(resources, str) else resources
        wanted = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
        if (
            any(fnmatch.fnmatchcase(action, pattern) for pattern in statement["Action"])
            and any(fnmatch.fnmatchcase(f"arn:aws:s3:::{resource}", pattern) for pattern in resources)
            and (wanted is None or (prefix is not None and any(fnmatch.fnmatchcase(prefix, w) for w in wanted)))
        ):
            return True
    return False


@dataclass
class Proxy:
    """A proxy in a thread of its own: ``with Proxy(server_url, share=0.05) as proxy: … proxy.url …``.

    Parameters
    ----------
    upstream : address of the S3 server
    share : of requests that fail, 0 … 1
    seed : int
    faults : kinds in the mix, of FAULTS
    policy : an IAM policy; what it does not grant is answered 403
    answers : status and error code (or, with status 200, body) with which all requests of an action are answered
    first : the fault of the first try of every request of an action
    always : the fault of every request of an action
    latency : seconds that every request takes longer
    refuses_checksums : status and error code for requests with the checksum headers that AWS's clients send since 2025
    """

    upstream: str
    share: float = 0.0
    seed: int = 0
    faults: tuple[str, ...] = FAULTS
    policy: dict[str, Any] | None = None
    answers: dict[str, tuple[str, str]] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)
    latency: float = 0.0
    refuses_checksums: tuple[str, str] | None = None
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> Proxy:
        self._seen: Counter[tuple[str, str]] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10), "the proxy did not start"
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def failed(self) -> int:
        """How many requests were made to fail."""
        return sum(request.fault in FAULTS for request in self.requests)

    def served(self, action: str) -> list[Request]:
        """Requests of an action that were carried out, whether or not the answer arrived."""
        return [request for request in self.requests if request.action == action and request.fault in ("", "lost")]

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main(started))
        self._loop.close()

    async def _main(self, started: threading.Event) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=2**20, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; return whether the connection stays open."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ", 2)
        headers = _headers(lines)
        action, resource, prefix = parse(method, target)
        fault = self._fault(method, target)
        if self._seen[method, target] == 1:
            fault = self.first.get(action, fault)
        fault = self.always.get(action, fault)
        if self.policy is not None and not allowed(self.policy, action, resource, prefix):
            fault = "403"
        told = self.answers.get(action)
        if self.refuses_checksums and any(_of_checksums(*header) for header in headers.items()):
            told = self.refuses_checksums
        if told:
            fault = "answer"
        length = int(headers.get("content-length", 0))
        self.requests.append(Request(method, target, action, resource, prefix, fault, length))
        if self.latency:
            await asyncio.sleep(self.latency)
        if fault == "reset":
            return _reset_connection(writer)
        waiting = headers.get("expect", "").lower() == "100-continue"
        if fault in _ERRORS or fault == "answer":
            if not waiting:  # one that waits for leave to send its body is refused before it does
                async for _ in _body(reader, headers):
                    pass
            await _answer(writer, method, *(told or _ERRORS[fault]))
            return not waiting
        if waiting:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault == "cut" and length > 1:
            await reader.readexactly(length // 2)
            return _reset_connection(writer)
        kept = [line for line in lines if line.partition(":")[0].lower() not in ("expect", "connection")]
        return await self._forward(f"{first}\r\n" + "\r\n".join(kept), method, headers, fault, reader, writer)

    async def _forward(
        self,
        head: str,
        method: str,
        headers: dict[str, str],
        fault: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        where = urlsplit(self.upstream)
        answer, request = await asyncio.open_connection(where.hostname, where.port, limit=2**20)
        try:
            request.write(f"{head}\r\nConnection: close\r\n\r\n".encode("latin-1"))
            async for piece in _body(reader, headers):
                request.write(piece)
                await request.drain()
            await request.drain()
            answer_head = await answer.readuntil(b"\r\n\r\n")
            status, *lines = answer_head.decode("latin-1").split("\r\n")[:-2]
            answered = _headers(lines)
            bodiless = method == "HEAD" or status.split(" ")[1] in ("204", "304")
            length = 0 if bodiless else int(answered.get("content-length", -1))
            if fault == "lost":
                async for _ in _until(answer, length):
                    pass
                return _reset_connection(writer)
            connection = "keep-alive" if length >= 0 else "close"
            kept = [line for line in lines if line.partition(":")[0].lower() != "connection"]
            status = status.replace("HTTP/1.0", "HTTP/1.1")
            writer.write("\r\n".join([status, *kept, f"Connection: {connection}", "", ""]).encode("latin-1"))
            left = length // 2 if fault == "cut" else length
            async for piece in _until(answer, left):
                writer.write(piece)
                await writer.drain()
            await writer.drain()
            if fault == "cut":
                await asyncio.sleep(0.01)  # what was sent arrives before the reset drops it
                return _reset_connection(writer)
            return length >= 0
        finally:
            request.close()

    def _fault(self, method: str, target: str) -> str:
        self._seen[method, target] += 1
        text = json.dumps([self.seed, method, target, self._seen[method, target]])
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        if number / 2**64 >= self.share:
            return ""
        return self.faults[number % len(self.faults)]


def _headers(lines: list[str]) -> dict[str, str]:
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _of_checksums(name: str, value: str) -> bool:
    """Whether a header asks for a checksum, holds one, or says that one follows the body."""
    asks = ("x-amz-checksum-", "x-amz-sdk-checksum-", "x-amz-trailer")
    return name.startswith(asks) or (name == "content-encoding" and "aws-chunked" in value)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """The pieces of a request's body as they lie on the wire, chunk sizes and trailers included."""
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        async for piece in _until(reader, int(headers.get("content-length", 0))):
            yield piece
        return
    while True:
        line = await reader.readuntil(b"\r\n")
        yield line
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        async for piece in _until(reader, size + 2):
            yield piece
    while True:
        line = await reader.readuntil(b"\r\n")
        yield line
        if line == b"\r\n":
            return


async def _until(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    """Pieces of ``length`` bytes in all, or, when negative, all there is."""
    while length:
        piece = await reader.read(_PIECE if length < 0 else min(_PIECE, length))
        if not piece:
            if length > 0:
                raise asyncio.IncompleteReadError(b"", length)
            return
        length -= len(piece) if length > 0 else 0
        yield piece


async def _answer(writer: asyncio.StreamWriter, method: str, status: str, code: str) -> None:
    error = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>As told.</Message></Error>'
    body = code if status == "200" else error
    head = f"HTTP/1.1 {status} Told\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write((head + ("" if method == "HEAD" else body)).encode())
    await writer.drain()


def _reset_connection(writer: asyncio.StreamWriter) -> bool:
    """Close with a TCP reset instead of an orderly end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


def credentials_in_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """The test's credentials in the environment, and none from this machine's own files or surroundings."""
    for key in [key for key in os.environ if key.startswith("AWS_")]:
        monkeypatch.delenv(key)
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
