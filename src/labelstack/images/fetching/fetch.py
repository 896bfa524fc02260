"""Bytes behind image URLs, over http(s), s3 and file, with retries and limits."""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from labelstack.images.fetching.hosts import Hosts
from labelstack.images.fetching.policy import Policy
from labelstack.images.fetching.retries import MAX_WAIT_S, is_transient, retry_after
from labelstack.images.fetching.status import RefusedError
from labelstack.images.fetching.stores import Stores
from labelstack.images.fetching.urls import PORTS, WebUrl, host_of, parse_url
from labelstack.images.fetching.web import SMALL, Answer, Web
from labelstack.params.images import ImagesSection

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Validator:
    """What a server said about the version of an image: its ETag and Last-Modified headers, or empty."""

    url: str
    etag: str = ""
    last_modified: str = ""

    def conditions(self) -> dict[str, str]:
        """Headers of a request that asks for another version only (RFC 9110, 13.1)."""
        pairs = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in pairs.items() if value}


@dataclass(frozen=True)
class Fetched(Generic[T]):
    """The one outcome of an image: ``content`` is set exactly when ``status`` is ``ok``.

    ``unchanged`` is the outcome of a request on the condition of another version, and no status of an image.
    """

    status: str
    content: T | None = None
    validator: Validator | None = None


class Fetcher:
    """Fetches images under one policy, for one event loop; keeps connections open. Use it as a context manager.

    Parameters
    ----------
    params : ImagesSection
        Timeouts, retries, limits, allowed schemes and hosts.
    root : Path
        Folder that relative ``file:`` URLs start from and that no file URL may leave.
    backoff_s : float
        First pause between attempts in seconds; it doubles with every attempt, with jitter, up to a minute.
    threads : int
        Threads in which ``accept`` works on the bytes.
    """

    def __init__(self, params: ImagesSection, root: Path, *, backoff_s: float = 0.5, threads: int = 1) -> None:
        self.params = params
        self.policy = Policy(params, root)
        self.backoff_s = backoff_s
        self._random = random.Random()
        self._hosts = Hosts(self.policy, params.concurrency, params.concurrency_per_host)
        self._stores = Stores(params, self.policy)
        self._blocking = asyncio.Semaphore(params.concurrency)
        self._web: Web | None = None
        self._threads = threads
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="accept")
        self._waiters = ThreadPoolExecutor(params.concurrency, thread_name_prefix="fetch")
        for name in ("aiohttp", "httpcore", "hpack"):  # they may log whole URLs, and a URL may hold a token
            logging.getLogger(name).setLevel(logging.ERROR)

    async def __aenter__(self) -> Fetcher:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(16, thread_name_prefix="names"))
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._web is not None:
            await self._web.close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._waiters.shutdown(wait=False, cancel_futures=True)

    async def fetch(
        self, urls: Sequence[str], accept: Callable[[bytes], T], known: Validator | None = None
    ) -> Fetched[T]:
        """Try an image's URLs in order until one gives bytes that ``accept`` takes.

        Parameters
        ----------
        urls : sequence of str
        accept : callable
            Turns the bytes into the result, or raises ``RefusedError``; then the next URL has its turn.
        known : Validator, optional
            The version at hand: its URL answers ``unchanged`` while the server has no other.

        Returns
        -------
        Fetched
            ``no_url`` without URLs; when all fail, the first transient status, else the first URL's status.
        """
        statuses = []
        for url in urls:
            try:
                return await self._with_retries(url, accept, known if known and known.url == url else None)
            except RefusedError as refusal:
                _log.debug("%s: %s", host_of(url), refusal.status)
                statuses.append(refusal.status)
        if not statuses:
            return Fetched("no_url")
        return Fetched(next(filter(is_transient, statuses), statuses[0]))

    async def _with_retries(self, url: str, accept: Callable[[bytes], T], known: Validator | None) -> Fetched[T]:
        for attempt in range(self.params.retries + 1):
            try:
                return await self._once(url, accept, known)
            except RefusedError as refusal:
                last = attempt == self.params.retries or self._hosts.unreachable(host_of(url).partition(":")[0])
                if last or not is_transient(refusal.status):
                    raise
                pause = self.backoff_s * 2**attempt * self._random.uniform(0.5, 1.0)
                await asyncio.sleep(min(max(pause, refusal.wait), MAX_WAIT_S))
        raise AssertionError("unreachable")

    async def _once(self, url: str, accept: Callable[[bytes], T], known: Validator | None) -> Fetched[T]:
        scheme = url.strip().partition(":")[0].lower()
        if scheme not in self.policy.schemes:
            raise RefusedError("forbidden")
        if scheme in PORTS:
            return await self._http(url, accept, known)
        loop, read = asyncio.get_running_loop(), self._stores.file if scheme == "file" else self._stores.s3_object
        async with self._blocking:
            data = await loop.run_in_executor(self._waiters, read, url)
            return Fetched("ok", await self._accepted(accept, data))

    async def _accepted(self, accept: Callable[[bytes], T], data: bytes) -> T:
        # With one thread to work in, a switch to it costs more than the few milliseconds that a small JPEG takes.
        if self._threads == 1 and len(data) <= SMALL and data[:2] == b"\xff\xd8":
            return accept(data)
        return await asyncio.get_running_loop().run_in_executor(self._workers, accept, data)

    async def _http(self, url: str, accept: Callable[[bytes], T], known: Validator | None) -> Fetched[T]:
        left = self.params.timeout_s
        try:
            here = parse_url(url)
        except ValueError:
            raise RefusedError("forbidden") from None
        for _ in range(MAX_REDIRECTS + 1):
            if here.scheme not in self.policy.schemes:
                raise RefusedError("forbidden")
            async with self._hosts.slot(here.host):
                started = time.monotonic()
                outcome = await self._hop(url, here, accept, known, left)
                left -= time.monotonic() - started
            if isinstance(outcome, Fetched):
                return outcome
            status, here = outcome
        raise RefusedError(status)

    async def _hop(
        self, url: str, here: WebUrl, accept: Callable[[bytes], T], known: Validator | None, left: float
    ) -> Fetched[T] | tuple[str, WebUrl]:
        """The outcome, or status and target of a redirect."""
        if self._web is None:  # many data sets need none
            self._web = Web(self.params, self._hosts)
        headers = known.conditions() if known else {}
        if here.auth:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(here.auth).encode()).decode()
        try:
            async with asyncio.timeout(max(0.0, left)) as clock, self._web.get(here, headers, clock) as answer:
                clock.reschedule(None)  # from here on it is our time, not the server's
                if answer.body is not None:
                    return Fetched("ok", await self._accepted(accept, answer.body), _validator(url, answer))
                return _no_image(here, answer, known)
        except RefusedError as refusal:
            self._hosts.pause(here.host, refusal.wait)
            raise
        except TimeoutError:
            raise RefusedError("timeout") from None


def _no_image(here: WebUrl, answer: Answer, known: Validator | None) -> Fetched[Any] | tuple[str, WebUrl]:
    """Unchanged, or status and target of a redirect; raise ``RefusedError`` on any other answer."""
    status, location = f"http_{answer.status}", answer.headers.get("location", "")
    if answer.status == 304 and known is not None:
        return Fetched("unchanged", None, known)
    if answer.status not in _REDIRECTS or not location:
        raise RefusedError(status, retry_after(answer.headers.get("retry-after", "")))
    try:
        return status, here.redirected(location)
    except ValueError:
        raise RefusedError("forbidden") from None


def _validator(url: str, answer: Answer) -> Validator | None:
    etag, last_modified = answer.headers.get("etag", ""), answer.headers.get("last-modified", "")
    return Validator(url, etag, last_modified) if etag or last_modified else None
