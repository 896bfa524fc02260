"""GET over HTTP/1.1 and HTTP/2, to checked addresses only, with limits on time, bytes and memory.

HTTP/1.1 goes through aiohttp, which costs about a tenth of httpx's time per request; HTTP/2 through httpcore, to hosts
that offer it when a TLS connection is made (ALPN, RFC 7301).

An image that browsers show is fetched, with two exceptions. What they do, and what happens here:

- Heads up to 256 KiB in any number of lines, as in Chrome (see ``heads``); what is longer is ``too_large``.
- Every 2xx answer with a body is an image, so also 201, 202 and 203. Browsers show the body of an error page too, which
  is a placeholder and not the image: here ``http_404``.
- 206 to a request that named no range: browsers take it as it comes; here it must say that it is all of the image, or
  say nothing, else ``http_206``, for a part of an image is no image.
- Packed bodies are unpacked, also those packed several times over. ``deflate`` is zlib's form or the raw one, as in
  browsers. gzip may come in several members (RFC 1952, 2.2), which are joined; Chrome shows the first alone. What
  stands behind a stream is ignored, as there; a body that is not packed as it says is ``not_an_image``.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import aiohttp
import certifi
from yarl import URL

from labelstack.images.fetching.hosts import CheckedResolver, Hosts
from labelstack.images.fetching.packed import unpacked
from labelstack.images.fetching.response_heads import NO_LIMITS, HeadTooLargeError, LimitedConnector
from labelstack.images.fetching.status import RefusedError
from labelstack.images.fetching.urls import WebUrl
from labelstack.params.images import ImagesSection

if TYPE_CHECKING:
    from labelstack.images.fetching.http2 import Http2

USER_AGENT = "Mozilla/5.0 (compatible; labelstack)"
HEADERS = {"User-Agent": USER_AGENT, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
SMALL = 2**18
_CHAFF = 2**16
_IDLE_S = 15.0
_BIG_BYTES = 2**28
_RANGE = re.compile(r"bytes\s+0-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True)
class Answer:
    """Status, headers with lower-case names and the whole body, or None when the answer is no image."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None = None


class Web:
    """Open connections to web hosts, for one event loop.

    Bodies beyond 256 KiB take turns: at one time as many as fit into 256 MiB at ``images.max_bytes`` each, at least
    one.

    Parameters
    ----------
    params : ImagesSection
    hosts : Hosts
    """

    def __init__(self, params: ImagesSection, hosts: Hosts) -> None:
        self.params = params
        self.hosts = hosts
        self._big = asyncio.Semaphore(max(1, _BIG_BYTES // params.max_bytes))
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=params.connect_timeout_s, sock_read=params.first_byte_timeout_s
        )
        connector = LimitedConnector(
            limit=0,  # Hosts limits
            resolver=CheckedResolver(hosts),
            use_dns_cache=False,
            keepalive_timeout=_IDLE_S,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            **NO_LIMITS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers=HEADERS,
        )
        self._offers: dict[tuple[str, str, int], asyncio.Future[bool]] = {}
        self._http2: Http2 | None = None

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        if self._http2 is not None:
            await self._http2.close()

    @asynccontextmanager
    async def get(self, url: WebUrl, headers: Mapping[str, str], clock: asyncio.Timeout) -> AsyncIterator[Answer]:
        """Request a URL once; ``clock`` stands still while a big body waits for its turn.

        Raises
        ------
        RefusedError
            ``forbidden``, ``connection``, ``timeout`` or ``too_large``.
        """
        await self.hosts.addresses(url.host, url.port)  # aiohttp asks no resolver for the address of an address
        async with AsyncExitStack() as held:
            body = _Body(self.params.max_bytes, self._big, held, clock)
            try:
                http2 = self.params.http2 and url.scheme == "https" and await self._offers_http2(url)
                answer = await (self._get_2 if http2 else self._get_1)(url, headers, body)
            except TimeoutError as error:
                if isinstance(error, aiohttp.ConnectionTimeoutError):
                    self.hosts.connected(url.host, False)
                raise RefusedError("timeout") from None
            except HeadTooLargeError:
                raise RefusedError("too_large") from None
            except aiohttp.ClientConnectorError:
                self.hosts.connected(url.host, False)
                raise RefusedError("connection") from None
            except (aiohttp.InvalidURL, UnicodeError):
                raise RefusedError("forbidden") from None
            except (aiohttp.ClientError, OSError, ValueError):
                raise RefusedError("connection") from None
            yield answer

    async def _get_1(self, url: WebUrl, headers: Mapping[str, str], body: _Body) -> Answer:
        secure = _context("http/1.1") if url.scheme == "https" else True
        async with self._session.get(
            URL(url.url, encoded=True), headers=headers, allow_redirects=False, timeout=self._timeout, ssl=secure
        ) as response:
            self.hosts.connected(url.host, True)
            found = _joined(response.headers.items())
            if not _has_image(response.status, found):
                await response.content.read(_CHAFF)  # what is read to the end leaves the connection open for the next
                return Answer(response.status, found)
            await body.expect(found.get("content-length", ""))
            async for chunk in response.content.iter_any():
                await body.add(chunk)
        return Answer(response.status, found, body.plain(found.get("content-encoding", "")))

    async def _get_2(self, url: WebUrl, headers: Mapping[str, str], body: _Body) -> Answer:
        if self._http2 is None:
            from labelstack.images.fetching.http2 import Http2

            self._http2 = Http2(self.params, self.hosts, _context("h2"))
        async with self._http2.get(url.url, {**HEADERS, **headers}) as (status, pairs, chunks):
            self.hosts.connected(url.host, True)
            found = _joined(pairs)
            if not _has_image(status, found):
                return Answer(status, found)
            await body.expect(found.get("content-length", ""))
            async for chunk in chunks:
                await body.add(chunk)
        return Answer(status, found, body.plain(found.get("content-encoding", "")))

    async def _offers_http2(self, url: WebUrl) -> bool:
        """Whether the host takes HTTP/2; asked once a host, of those who can be reached."""
        if url.origin not in self._offers:
            answer = self._offers[url.origin] = asyncio.get_running_loop().create_future()
            try:
                answer.set_result(await self._ask(url))
            except BaseException:
                answer.cancel()
                del self._offers[url.origin]
                raise
        try:
            return await asyncio.shield(self._offers[url.origin])
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise ConnectionError("the host could not be asked") from None

    async def _ask(self, url: WebUrl) -> bool:
        error: BaseException = ConnectionError()
        for family, address in await self.hosts.addresses(url.host, url.port):
            try:
                async with asyncio.timeout(self.params.connect_timeout_s):
                    _, writer = await asyncio.open_connection(
                        address, url.port, family=family, ssl=_context("h2", "http/1.1"), server_hostname=url.host
                    )
            except OSError as failure:  # TimeoutError and ssl.SSLError are OSErrors too
                error = failure
                continue
            protocol = writer.get_extra_info("ssl_object").selected_alpn_protocol()
            writer.transport.abort()
            return bool(protocol == "h2")
        self.hosts.connected(url.host, False)
        raise error


class _Body:
    """Collects a body; beyond 256 KiB it holds one of the places for big ones until ``held`` is closed."""

    def __init__(self, limit: int, big: asyncio.Semaphore, held: AsyncExitStack, clock: asyncio.Timeout) -> None:
        self.limit, self.big, self.held, self.clock = limit, big, held, clock
        self.chunks: list[bytes] = []
        self.size = 0
        self.has_place = False

    async def expect(self, length: str) -> None:
        """Refuse by the Content-Length, before anything is read."""
        if length.isascii() and length.isdecimal():
            await self._allow(int(length))

    async def add(self, chunk: bytes) -> None:
        """Take one more piece."""
        self.size += len(chunk)
        self.chunks.append(chunk)
        await self._allow(self.size)

    def plain(self, encoding: str) -> bytes:
        """The body, unpacked when the server packed it unasked."""
        body = b"".join(self.chunks)
        self.chunks.clear()
        return unpacked(body, encoding, self.limit)

    async def _allow(self, size: int) -> None:
        if size > self.limit:
            raise RefusedError("too_large")
        if size > SMALL and not self.has_place:
            self.has_place = True
            loop, deadline = asyncio.get_running_loop(), self.clock.when()
            started = loop.time()
            self.clock.reschedule(None)
            await self.held.enter_async_context(self.big)
            if deadline is not None:
                self.clock.reschedule(deadline + loop.time() - started)


def _has_image(status: int, headers: Mapping[str, str]) -> bool:
    if status == 206 and "content-range" in headers:
        found = _RANGE.fullmatch(headers["content-range"].strip())
        return found is not None and int(found[1]) + 1 == int(found[2])
    return 200 <= status < 300 and status not in {204, 205}


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by lower-case name: of those that come twice the last, but all codings."""
    found: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key == "content-encoding" and key in found else value
    return found


@cache
def _context(*protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:  # a system without certificates of its own
        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(list(protocols))
    return context
