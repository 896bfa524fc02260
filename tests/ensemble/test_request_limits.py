"""Requests that ask for too much, against the middleware alone and the model's entry point."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from labelstack.ensemble.request_limits import Limits, RequestLimits
from labelstack.support.errors import UserError

JSON = "application/json"


class Echo:
    """An application that answers with the size of the body it got."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.hold: asyncio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert not message["more_body"]
        self.bodies.append(message["body"])
        if self.hold is not None:
            await self.hold.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


async def ask(
    app: RequestLimits,
    parts: list[bytes],
    kind: str | None = JSON,
    length: int | None = None,
    path: str = "/invocations",
) -> tuple[int, str]:
    """Status and message of one request whose body comes in parts; the last part may never come (None)."""
    headers = [(b"content-type", kind.encode())] if kind else []
    headers += [(b"content-length", str(length).encode())] if length is not None else []
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    messages = [{"type": "http.request", "body": part, "more_body": i + 1 < len(parts)} for i, part in enumerate(parts)]
    answer: list[Any] = []

    async def receive() -> Any:
        if not messages:
            await asyncio.sleep(3600)
        return messages.pop(0)

    async def send(message: Any) -> None:
        answer.append(message)

    await app(scope, receive, send)
    body = b"".join(each.get("body", b"") for each in answer[1:])
    return answer[0]["status"], json.loads(body).get("message", "")


def asked(limits: Limits, parts: list[bytes], **more: Any) -> tuple[int, str, list[bytes]]:
    echo = Echo()
    status, message = asyncio.run(ask(RequestLimits(echo, limits, body_s=0.2), parts, **more))
    return status, message, echo.bodies


def records(rows: int) -> bytes:
    return json.dumps({"dataframe_records": [{"image": "a"}] * rows}).encode()


def test_what_is_within_the_limits_passes_as_it_came() -> None:
    body = records(3)
    for parts in ([body], [body[:5], b"", body[5:]]):
        assert asked(Limits(3, len(body)), parts) == (200, "", [body])
    csv = b"image\n" + b"a\n" * 2
    assert asked(Limits(3, 100), [csv], kind="text/csv; charset=utf-8") == (200, "", [csv])
    assert asked(Limits(1, 1), [b"anything"], kind=None, path="/other") == (200, "", [b"anything"])


@pytest.mark.parametrize("form", ["dataframe_records", "dataframe_split", "instances", "inputs"])
def test_rows_of_every_form_are_counted(form: str) -> None:
    table: Any = {
        "dataframe_records": [{"image": "a"}] * 4,
        "dataframe_split": {"columns": ["image"], "data": [["a"]] * 4},
        "instances": [{"image": "a"}] * 4,
        "inputs": {"image": ["a"] * 4},
    }[form]
    body = json.dumps({form: table}).encode()
    assert asked(Limits(4, None), [body])[0] == 200
    status, message, seen = asked(Limits(3, None), [body])
    assert (status, seen) == (413, [])
    assert message.startswith("4 rows in one request; this server takes at most 3: ask in parts, or")
    assert asked(Limits(3, None), [b"image\n" + b"a\n" * 4], kind="text/csv")[0] == 413


def test_bytes_are_counted_while_they_come_in() -> None:
    body = records(3)
    for parts, length in (([b"never read"], 1000), ([body, body], None), ([body, body], 5)):
        status, message, seen = asked(Limits(None, len(body)), parts, length=length)
        assert (status, seen) == (413, [])
        assert f"more than {len(body)} bytes" in message


@pytest.mark.parametrize(
    ("body", "kind", "status", "text"),
    [
        (b"{}", None, 415, "expected the Content-Type application/json or text/csv, not none"),
        (b"{}", "application/vnd.apache.parquet", 415, "not application/vnd.apache.parquet"),
        (b"{nonsense", JSON, 400, "valid JSON"),
        (b"\xff\xfe", JSON, 400, "valid JSON"),
        (b"[" * 100_000, JSON, 400, "nested too deep"),
        (b"[]", JSON, 400, "exactly one of the input fields"),
        (b'{"inputs": [], "instances": []}', JSON, 400, "exactly one of the input fields"),
    ],
)
def test_what_is_no_request_is_refused(body: bytes, kind: str | None, status: int, text: str) -> None:
    found, message, seen = asked(Limits(), [body], kind=kind)
    assert (found, seen) == (status, [])
    assert text in message


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def slow() -> tuple[int, str]:
        app = RequestLimits(Echo(), Limits(), body_s=0.1)
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/invocations",
            "headers": [(b"content-type", JSON.encode())],
        }
        answer: list[Any] = []

        async def receive() -> Any:
            await asyncio.sleep(3600)

        async def send(message: Any) -> None:
            answer.append(message)

        await app(scope, receive, send)
        return answer[0]["status"], json.loads(answer[1]["body"])["message"]

    status, message = asyncio.run(slow())
    assert status == 408
    assert "did not come within 0.1 seconds" in message


def test_bodies_of_all_requests_together_are_bounded_and_forgotten() -> None:
    async def several() -> tuple[list[int], int]:
        echo, body = Echo(), records(3)
        echo.hold = asyncio.Event()
        app = RequestLimits(echo, Limits(None, len(body)))
        held = [asyncio.create_task(ask(app, [body])) for _ in range(4)]
        while len(echo.bodies) < 4:
            await asyncio.sleep(0.01)
        busy = await ask(app, [body])
        echo.hold.set()
        done = [(await task)[0] for task in held]
        return [*done, busy[0]], (await ask(app, [body]))[0]

    assert asyncio.run(several()) == ([200, 200, 200, 200, 503], 200)


def test_limits_come_from_the_environment() -> None:
    serving = {"_MLFLOW_IS_IN_SERVING_ENVIRONMENT": "true"}
    assert Limits.of_environment({}) == Limits(None, None)
    assert Limits.of_environment(serving) == Limits.of_server({}) == Limits(256, 64_000_000)
    said = {"LABELSTACK_MAX_ROWS": "9", "LABELSTACK_MAX_REQUEST_BYTES": " 77 "}
    assert Limits.of_environment(said) == Limits.of_server(said) == Limits(9, 77)
    for wrong in ("0", "-3", "many", "1.5", "²"):
        with pytest.raises(UserError, match="LABELSTACK_MAX_ROWS: expected a whole number above 0"):
            Limits.of_environment({"LABELSTACK_MAX_ROWS": wrong})


def test_the_entry_point_refuses_with_413_in_a_server_and_never_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from labelstack.ensemble.pyfunc_model import EnsembleModel, RequestTooLargeError

    model = EnsembleModel()
    model.patience_s = None
    plain = SimpleNamespace(regions=None)
    model.ensemble = SimpleNamespace(predict=lambda images, **_: len(images), spec=plain)  # type: ignore[assignment]
    many = pd.DataFrame({"image": ["a"] * 257})
    assert model.predict(None, many) == 257  # type: ignore[comparison-overlap]
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    assert model.predict(None, many[:256]) == 256  # type: ignore[comparison-overlap]
    monkeypatch.setenv("LABELSTACK_MAX_REQUEST_BYTES", "200")
    for frame, text in ((many, "257 rows"), (pd.DataFrame({"image": ["a" * 201]}), "more than 200 bytes")):
        with pytest.raises(RequestTooLargeError, match=text) as caught:
            model.predict(None, frame)
        assert caught.value.get_http_status_code() == 413
