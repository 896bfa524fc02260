"""What one request to a served ensemble may ask for, and an ASGI middleware that says so before anything is parsed.

``LABELSTACK_MAX_ROWS`` and ``LABELSTACK_MAX_REQUEST_BYTES`` in the server's environment set the limits. The model
counts rows by itself; put around MLflow's application the middleware counts bytes while they come in, and answers what
MLflow's own reader would answer with an internal error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from labelstack.support.errors import UserError

ROWS = 256
REQUEST_BYTES = 64_000_000
BODY_S = 30.0  # for a body to come in
_IN_FLIGHT = 4  # times the bytes of a request, in all requests together
_SERVING = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"  # MLflow sets it to "true" in its server and in `mlflow models predict`
_INVOCATIONS = "/invocations"
_TOO_SLOW = 408
_TYPES = ("application/json", "text/csv")
_TABLES = {"dataframe_records", "dataframe_split", "instances", "inputs"}
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """Rows and bytes of one request; None: as many as come."""

    rows: int | None = ROWS
    request_bytes: int | None = REQUEST_BYTES

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None) -> Limits:
        """What the environment says; the defaults hold in MLflow's server alone, so that code of one's own is free.

        Raises
        ------
        UserError
            When a variable is no whole number above 0.
        """
        said = os.environ if environment is None else environment
        serving = said.get(_SERVING, "") == "true"
        return cls(
            _number(said, "LABELSTACK_MAX_ROWS", ROWS if serving else None),
            _number(said, "LABELSTACK_MAX_REQUEST_BYTES", REQUEST_BYTES if serving else None),
        )

    @classmethod
    def of_server(cls, environment: Mapping[str, str] | None = None) -> Limits:
        """As ``of_environment``, for a server that is about to start."""
        return cls.of_environment({**(os.environ if environment is None else environment), _SERVING: "true"})

    def refusal(self, rows: int, size: int = 0) -> str | None:
        """A sentence about what is too much; None where all is within the limits."""
        if self.rows is not None and rows > self.rows:
            return f"{rows} rows in one request; this server takes at most {self.rows}: ask in parts, or {_ELSEWHERE}"
        if self.request_bytes is not None and size > self.request_bytes:
            return (
                f"a request of more than {self.request_bytes} bytes, which is the most that this server takes: ask in "
                f"parts, or {_ELSEWHERE}"
            )
        return None


_ELSEWHERE = "use `labelstack predict` where the images are"


class RequestLimits:
    """ASGI middleware around MLflow's scoring application.

    Answers 413 beyond the limits, 415 for other bodies than JSON and CSV, 400 for JSON that is none or nested too
    deep, 408 when a body does not come in time, and 503 while the bodies of all requests are more than four times the
    limit of one. All else reaches the application as it came.

    Parameters
    ----------
    app : ASGI application
    limits : Limits
    body_s : float
        Seconds for a body to come in.
    """

    def __init__(self, app: App, limits: Limits, *, body_s: float = BODY_S) -> None:
        self.app = app
        self.limits = limits
        self.body_s = body_s
        self._in_flight = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != _INVOCATIONS:
            await self.app(scope, receive, send)
            return
        taken = _Taken()
        try:
            refused = await self._read(scope, receive, taken)
            if refused is None:
                refused = await asyncio.to_thread(self._problem, scope, bytes(taken.body))
            if refused is not None:
                if refused[0] != _TOO_SLOW:
                    await self._drain(receive, taken)
                await _answer(send, *refused)
                return
            await self.app(scope, _replayed(bytes(taken.body), receive), send)
        finally:
            self._in_flight -= taken.counted

    async def _read(self, scope: Mapping[str, Any], receive: Receive, taken: _Taken) -> tuple[int, str] | None:
        if (kind := _header(scope, b"content-type").partition(";")[0].strip().lower()) not in _TYPES:
            return 415, f"expected the Content-Type {' or '.join(_TYPES)}, not {kind[:80] or 'none'}"
        declared = _header(scope, b"content-length")
        most = self.limits.request_bytes
        if declared.isdecimal() and (problem := self.limits.refusal(0, int(declared))):
            return 413, problem
        try:
            async with asyncio.timeout(self.body_s):
                while True:
                    message = await receive()
                    taken.whole = not message.get("more_body", False)
                    if message["type"] == "http.disconnect":
                        return 400, "the request ended too early"
                    part = message.get("body", b"")
                    taken.body += part
                    taken.counted += len(part)
                    self._in_flight += len(part)
                    if problem := self.limits.refusal(0, len(taken.body)):
                        return 413, problem
                    if most is not None and self._in_flight > _IN_FLIGHT * most:
                        return 503, "too many large requests at once; ask again in a moment"
                    if taken.whole:
                        return None
        except TimeoutError:
            return _TOO_SLOW, f"the request's body did not come within {self.body_s:g} seconds"

    async def _drain(self, receive: Receive, taken: _Taken) -> None:
        """Read what is left of a body, and keep none of it: clients that still send would not see the answer."""
        left = _IN_FLIGHT * (self.limits.request_bytes or REQUEST_BYTES)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.body_s):
                while not taken.whole and left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    taken.whole = not message.get("more_body", False)

    def _problem(self, scope: Mapping[str, Any], body: bytes) -> tuple[int, str] | None:
        if not _header(scope, b"content-type").lower().startswith("application/json"):
            problem = self.limits.refusal(body.count(b"\n"))
            return (413, problem) if problem else None
        try:
            content = json.loads(body)
        except RecursionError:
            return 400, "the JSON is nested too deep"
        except ValueError as error:  # UnicodeDecodeError too
            return 400, f"expected valid JSON ({str(error)[:80]})"
        if not isinstance(content, dict) or len(_TABLES & set(content)) != 1:
            return 400, f"expected a JSON object with exactly one of the input fields {', '.join(sorted(_TABLES))}"
        problem = self.limits.refusal(_rows(content))
        return (413, problem) if problem else None


@dataclass
class _Taken:
    """What has come in of a request."""

    body: bytearray = field(default_factory=bytearray)
    counted: int = 0
    whole: bool = False


def _rows(content: Mapping[str, Any]) -> int:
    """Rows of a table in any of MLflow's forms."""
    (table,) = (content[key] for key in _TABLES & set(content))
    if isinstance(table, dict):  # columns
        table = table.get("data", max(table.values(), key=_length, default=[]))
    return _length(table)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 1


def _number(said: Mapping[str, str], name: str, usual: int | None) -> int | None:
    text = said.get(name, "").strip()
    if not text:
        return usual
    if not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text) > 0):
        raise UserError(f"{name}: expected a whole number above 0, not {text[:40]!r}")
    return int(text)


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name), "")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A request's body once more, and then what else comes: that the client has gone."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


async def _answer(send: Send, status: int, problem: str) -> None:
    """An error in the form of MLflow's; a body that is too long is not read to its end, so the connection ends."""
    content = json.dumps({"error_code": "BAD_REQUEST", "message": problem}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": content})
