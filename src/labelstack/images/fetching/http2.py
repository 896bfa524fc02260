"""GET over HTTP/2 through httpcore, to checked addresses only; imported when the first host offers it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpcore
from h2.connection import H2Connection
from h2.exceptions import DenialOfServiceError

from labelstack.images.fetching.hosts import Hosts
from labelstack.images.fetching.response_heads import MAX_HEAD, HeadTooLargeError
from labelstack.params.images import ImagesSection

_IDLE_S = 15.0

H2Connection.DEFAULT_MAX_HEADER_LIST_SIZE = MAX_HEAD  # httpcore has no setting for it


class Http2:
    """Connections to hosts that offer HTTP/2, one a host; requests share it.

    Parameters
    ----------
    params : ImagesSection
    hosts : Hosts
    context : ssl.SSLContext
        Offers ``h2``.
    """

    def __init__(self, params: ImagesSection, hosts: Hosts, context: ssl.SSLContext) -> None:
        silence = params.first_byte_timeout_s
        self._times = {"connect": params.connect_timeout_s, "read": silence, "write": silence}
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            http1=False,
            http2=True,
            max_connections=None,
            keepalive_expiry=_IDLE_S,
            network_backend=_CheckedBackend(hosts),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def _drop(self, origin: httpcore.Origin) -> None:
        for connection in self._pool.connections:
            if connection.can_handle_request(origin):
                await connection.aclose()

    @asynccontextmanager
    async def get(
        self, url: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[int, list[tuple[str, str]], AsyncIterator[bytes]]]:
        """Status, headers and the body in pieces.

        Raises
        ------
        TimeoutError, ConnectionError, HeadTooLargeError
        """
        try:
            async with self._pool.stream(
                "GET", url, headers=list(headers.items()), extensions={"timeout": self._times}
            ) as response:
                found = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
                yield response.status, found, response.aiter_stream()
        except httpcore.TimeoutException:
            raise TimeoutError from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            if isinstance(error, httpcore.LocalProtocolError):  # httpcore would go on with what h2 has given up
                await self._drop(httpcore.URL(url).origin)
            cause = error.args[0] if error.args else None
            if isinstance(cause, DenialOfServiceError) or "continuation frames" in str(cause):
                raise HeadTooLargeError from None
            raise ConnectionError(type(error).__name__) from None


class _CheckedBackend(httpcore.AnyIOBackend):
    """Connects to the checked addresses of a host; its name stays in the certificate's check and the request."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts

    async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        """Open a TCP connection."""
        error: Exception = httpcore.ConnectError()
        for _, address in await self.hosts.addresses(host, port):
            try:
                return await super().connect_tcp(address, port, *args, **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
        raise error
