"""GET over HTTP/1.1 and HTTP/2, to checked addresses only, with limits on time, bytes and memory.

HTTP/1.1 goes through aiohttp, which costs about a tenth of httpx's time per request; HTTP/2 through httpcore, to hosts
that offer it when a TLS connection is made (ALPN, RFC 7301).
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import aiohttp
import certifi
from yarl import URL

from labelstack.images.hosts import CheckedResolver, Hosts
from labelstack.images.status import RefusedError
from labelstack.images.urls import WebUrl
from labelstack.params import Images

if TYPE_CHECKING:
    from labelstack.images.http2 import Http2

USER_AGENT = "Mozilla/5.0 (compatible; labelstack)"
HEADERS = {"User-Agent": USER_AGENT, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
SMALL = 2**18
_CHAFF = 2**16
_IDLE_S = 15.0
_BIG_BYTES = 2**28


@dataclass(frozen=True)
class Answer:
    """Status, headers with lower-case names and, for status 200, the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Web:
    """Open connections to web hosts, for one event loop.

    Bodies beyond 256 KiB take turns: at one time as many as fit into 256 MiB at ``images.max_bytes`` each, at least
    one.

    Parameters
    ----------
    params : Images
    hosts : Hosts
    """

    def __init__(self, params: Images, hosts: Hosts) -> None:
        self.params = params
        self.hosts = hosts
        self._big = asyncio.Semaphore(max(1, _BIG_BYTES // params.max_bytes))
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=params.connect_timeout_s, sock_read=params.first_byte_timeout_s
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # Hosts limits
                resolver=CheckedResolver(hosts),
                use_dns_cache=False,
                keepalive_timeout=_IDLE_S,
            ),
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
            found = {name.lower(): value for name, value in response.headers.items()}
            if response.status != 200:
                await response.content.read(_CHAFF)  # what is read to the end leaves the connection open for the next
                return Answer(response.status, found)
            await body.expect(found.get("content-length", ""))
            async for chunk in response.content.iter_any():
                await body.add(chunk)
        return Answer(200, found, body.plain(found.get("content-encoding", "")))

    async def _get_2(self, url: WebUrl, headers: Mapping[str, str], body: _Body) -> Answer:
        if self._http2 is None:
            from labelstack.images.http2 import Http2

            self._http2 = Http2(self.params, self.hosts, _context("h2"))
        async with self._http2.get(url.url, {**HEADERS, **headers}) as (status, found, chunks):
            self.hosts.connected(url.host, True)
            if status != 200:
                return Answer(status, found)
            await body.expect(found.get("content-length", ""))
            async for chunk in chunks:
                await body.add(chunk)
        return Answer(200, found, body.plain(found.get("content-encoding", "")))

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
        if encoding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
            return body
        try:
            unpacked = zlib.decompressobj(wbits=47).decompress(body, self.limit + 1)
        except zlib.error:
            raise RefusedError("not_an_image") from None
        if len(unpacked) > self.limit:
            raise RefusedError("too_large")
        return unpacked

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


@cache
def _context(*protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:  # a system without certificates of its own
        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(list(protocols))
    return context
