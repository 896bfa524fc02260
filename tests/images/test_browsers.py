"""Answers of every form that browsers take for an image, and where they go too far."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest

from images.http2_server import Http2Server
from images.server import Handler, Server, jpeg
from images.test_web import fetch_all
from labelstack.params.images import ImagesSection

LONG_HEADS = [(1, 9000), (300, 60), (40, 4000)]
TOO_LONG_HEADS = [(300, 4000), (5000, 60), (100, 4000)]


@pytest.mark.parametrize(("lines", "size"), LONG_HEADS + TOO_LONG_HEADS)
def test_heads_are_as_long_as_browsers_take_them(
    certificate: tuple[Path, Path], server: Server, params: ImagesSection, lines: int, size: int
) -> None:
    second = Http2Server(*certificate, jpeg())
    host = f"localhost:{second.port}"
    hosts = [*params.allow_hosts, host]
    opened = params.model_copy(update={"allow_hosts": hosts, "retries": 2, "concurrency": 1, "timeout_s": 60})
    taken = (lines, size) in LONG_HEADS
    urls = [server.url(f"lines/{lines}/{size}"), f"https://{host}/lines/{lines}/{size}"]
    for url, other in zip(urls, (server.url("img/1.jpg"), f"https://{host}/"), strict=True):
        found, after = fetch_all(opened, [[url], [other]])
        assert (found.status, found.content) == (("ok", jpeg()) if taken else ("too_large", None))
        assert after.status == "ok"
    assert server.hits[f"lines/{lines}/{size}"] == 1  # not tried again
    assert second.requests == {"h2": 2}
    second.close()


def test_a_line_of_a_megabyte_is_refused(server: Server, params: ImagesSection) -> None:
    path = f"lines/1/{2**20}"
    assert fetch_all(params.model_copy(update={"retries": 2}), [[server.url(path)]])[0].status == "too_large"
    assert server.hits[path] == 1


@pytest.mark.parametrize("part", ["before", "in the body", "behind"])
def test_what_never_ends_around_a_body_is_refused(
    server: Server, params: ImagesSection, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Informational answers, chunk extensions and trailers; the server counts what it could send."""
    sent = []

    def endless(handler: Handler) -> None:
        handler.close_connection = True
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        begin, piece = {
            "before": (b"HTTP/1.1 103 Early Hints\r\n", b"X-%d: " + b"x" * 10_000 + b"\r\n"),
            "in the body": (head, b"1;%d" + b"x" * 10_000 + b"\r\nx\r\n"),
            "behind": (head + b"0\r\n", b"X-%d: " + b"x" * 10_000 + b"\r\n"),
        }[part]
        handler.wfile.write(begin)
        for number in range(5000):
            handler.wfile.write(piece % number)
            sent.append(len(piece))

    monkeypatch.setattr(Handler, "do_GET", endless)
    assert fetch_all(params, [[server.url("x")]])[0].status == "too_large"
    assert sum(sent) < 20_000_000  # of 50; the rest of it lay in the sockets' buffers


def test_early_hints_are_passed_over(server: Server, params: ImagesSection, monkeypatch: pytest.MonkeyPatch) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </x.css>\r\n\r\n"
    monkeypatch.setattr(Handler, "do_GET", lambda self: (self.wfile.write(hint * 3), self.send(200, jpeg()))[1])
    assert fetch_all(params, [[server.url("x")]])[0].content == jpeg()


@pytest.mark.parametrize(
    ("code", "content_range", "expected"),
    [
        (200, "", "ok"), (201, "", "ok"), (202, "", "ok"), (203, "", "ok"), (206, "", "ok"), (226, "", "ok"),
        (206, "bytes 0-{last}/{size}", "ok"), (206, "bytes 0-99/{size}", "http_206"),
        (206, "bytes 1-{last}/{size}", "http_206"), (206, "bytes 0-{last}/*", "http_206"),
        (206, "pages 0-{last}/{size}", "http_206"), (204, "", "http_204"), (205, "", "http_205"),
        (300, "", "http_300"), (404, "", "http_404"), (500, "", "http_500"),
    ],
)  # fmt: skip
def test_what_answers_are_images(
    server: Server, params: ImagesSection, monkeypatch: pytest.MonkeyPatch, code: int, content_range: str, expected: str
) -> None:
    body = b"" if code in {204, 205} else jpeg()
    value = content_range.format(last=len(body) - 1, size=len(body))
    headers = {"Content-Range": value} if value else {}
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.send(code, body, headers=headers))
    found = fetch_all(params, [[server.url("x")]])[0]
    assert (found.status, found.content) == (expected, body if expected == "ok" else None)


def test_http2_answers_are_images_too(certificate: tuple[Path, Path], params: ImagesSection) -> None:
    server = Http2Server(*certificate, jpeg())
    host = f"localhost:{server.port}"
    opened = params.model_copy(update={"allow_hosts": [host]})
    codes = ["200", "201", "203", "206", "404", "503"]
    found = fetch_all(opened, [[f"https://{host}/{code}"] for code in codes])
    assert [each.status for each in found] == ["ok", "ok", "ok", "ok", "http_404", "http_503"]
    server.close()


def deflated(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": ("gzip", lambda data: gzip.compress(data)),
    "members": ("gzip", lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:])),
    "many members": ("gzip", lambda data: b"".join(gzip.compress(data[i : i + 1]) for i in range(len(data)))),
    "empty members": ("gzip", lambda data: gzip.compress(b"") * 9 + gzip.compress(data) + gzip.compress(b"")),
    "zeros behind": ("x-gzip", lambda data: gzip.compress(data) + bytes(512)),
    "something behind": ("gzip", lambda data: gzip.compress(data) + b"<!-- cache -->"),
    "a broken member behind": ("gzip", lambda data: gzip.compress(data) + b"\x1f\x8b\x08\xff" + bytes(40)),
    "zlib": ("deflate", lambda data: zlib.compress(data)),
    "raw": ("deflate", lambda data: deflated(data, -15)),
    "twice": ("gzip, deflate", lambda data: deflated(gzip.compress(data), -15)),
    "in capitals": (" GZIP ,identity", lambda data: gzip.compress(data)),
    "not": ("identity", lambda data: data),
    "nothing said": ("", lambda data: data),
}  # fmt: skip


@pytest.mark.parametrize("kind", PACKED)
def test_bodies_are_unpacked_however_they_were_packed(
    server: Server, params: ImagesSection, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    encoding, pack = PACKED[kind]
    headers = {"Content-Encoding": encoding}
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.send(200, pack(jpeg()), headers=headers))
    opened = params.model_copy(update={"max_bytes": 50_000})
    assert fetch_all(opened, [[server.url("x")]])[0].content == jpeg()


@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        ("deflate", b"nothing packed", "not_an_image"),
        ("gzip", deflated(bytes(99), -15), "not_an_image"),
        (", ".join(["gzip"] * 9), b"", "not_an_image"),
        ("gzip", gzip.compress(bytes(15_000), mtime=0) * 2, "too_large"),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(2**20), mtime=0), mtime=0), "too_large"),
        ("deflate", deflated(bytes(2**20), -15), "too_large"),
    ],
)
def test_bodies_that_cannot_be_unpacked_are_told(
    server: Server, params: ImagesSection, monkeypatch: pytest.MonkeyPatch, encoding: str, body: bytes, expected: str
) -> None:
    headers = {"Content-Encoding": encoding}
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.send(200, body, headers=headers))
    assert fetch_all(params, [[server.url("x")]])[0].status == expected
