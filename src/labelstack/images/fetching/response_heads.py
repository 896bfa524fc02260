"""Response heads as long as browsers take them, and no longer: 256 KiB, as in Chrome; Firefox takes 384 KiB.

aiohttp limits each line and the number of lines instead, and its limits are below what image hosts send.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

MAX_HEAD = 2**18
NO_LIMITS: dict[str, Any] = dict.fromkeys(("max_line_size", "max_field_size", "max_headers"), 4 * MAX_HEAD)
"""For a session, which leaves heads to ``LimitedConnector``: asyncio reads 256 KiB at once, and then looks at MAX_HEAD.
"""
_FRAMING = 8  # bytes on the wire for one of a body; chunks of one byte take 6


class HeadTooLargeError(aiohttp.ClientError):
    """A server sends more around a body than is waited for."""


class LimitedConnector(aiohttp.TCPConnector):
    """Connections whose responses have heads of at most ``MAX_HEAD`` bytes, in any number of lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_Handler, loop=asyncio.get_running_loop())  # type: ignore[assignment]


class _Handler(ResponseHandler):
    """Counts what comes in that is not content: head, and chunk extensions and trailers of chunked bodies."""

    _received = 0
    _payload_in: Any = None

    def set_response_params(self, **options: Any) -> None:
        """A request has been sent, an answer is next."""
        self._received, self._payload_in = 0, None
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        """Bytes from the network."""
        self._received += len(data)
        super().data_received(data)
        content = 0 if self._payload_in is None else self._payload_in.total_bytes
        if self._received > MAX_HEAD + _FRAMING * content:
            self._refuse()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """A head has been read."""
        message, self._payload_in = data
        if sum(len(name) + len(value) + 4 for name, value in message.raw_headers) > MAX_HEAD:
            self._refuse()
        else:
            super().feed_data(data, size)

    def _refuse(self) -> None:
        error = HeadTooLargeError()
        if self._payload_in is not None:
            self._payload_in.set_exception(error)
        self.set_exception(error)
        if self.transport is not None:
            self.transport.close()
