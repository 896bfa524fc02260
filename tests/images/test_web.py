"""Connections: checked addresses, HTTP/2, limits of hosts, and URLs as they are sent."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.http2_server import Http2Server, make_certificate
from images.server import Handler, Server, jpeg
from labelstack.images.fetching import web
from labelstack.images.fetching.fetch import Fetched, Fetcher, Validator
from labelstack.images.fetching.hosts import Hosts
from labelstack.images.fetching.policy import Policy, is_global
from labelstack.images.fetching.status import is_pattern, matches
from labelstack.images.fetching.urls import parse_url
from labelstack.params.images import ImagesSection
from labelstack.support.credentials import without_credentials


def fetch_all(
    params: ImagesSection, images: Sequence[Sequence[str]], known: Validator | None = None, root: Path = Path()
) -> list[Fetched[bytes]]:
    async def fetch() -> list[Fetched[bytes]]:
        async with Fetcher(params, root, backoff_s=0.01) as fetcher:
            return list(await asyncio.gather(*(fetcher.fetch(urls, bytes, known) for urls in images)))

    return asyncio.run(fetch())


def test_no_more_requests_at_once_than_allowed(server: Server, params: ImagesSection) -> None:
    server.delay = 0.03
    urls = [[server.url(f"img/{i}.jpg")] for i in range(12)]
    for total, per_host, most in ((2, 8, 2), (8, 3, 3)):
        server.busiest = 0
        limited = params.model_copy(update={"concurrency": total, "concurrency_per_host": per_host})
        assert {each.status for each in fetch_all(limited, urls)} == {"ok"}
        assert 1 < server.busiest <= most


def test_connections_are_used_again(server: Server, params: ImagesSection, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = []
    setup = Handler.setup
    monkeypatch.setattr(Handler, "setup", lambda self: (accepted.append(1), setup(self))[1])
    one = params.model_copy(update={"concurrency": 1})
    fetch_all(one, [[server.url(f"{kind}/{i}.jpg")] for i in range(10) for kind in ("img", "nowhere")])
    assert len(accepted) == 1


def test_a_host_that_asks_for_a_pause_gets_one_from_all_images(server: Server, params: ImagesSection) -> None:
    one = params.model_copy(update={"concurrency": 1, "retries": 0})
    found = fetch_all(one, [[server.url("busy.jpg")], [server.url("img/1.jpg")]])
    assert [each.status for each in found] == ["http_429", "ok"]
    assert server.too_early == 0


def test_a_host_that_cannot_be_reached_is_not_tried_again_and_again(
    params: ImagesSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connects = []
    connect = asyncio.selector_events.BaseSelectorEventLoop.sock_connect

    async def counted(self: Any, sock: socket.socket, address: Any) -> None:
        connects.append(address)
        await connect(self, sock, address)

    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", counted)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x.jpg"  # bound, but nobody listens
        several = params.model_copy(update={"allow_hosts": ["127.0.0.1"], "retries": 3, "concurrency": 1})
        found = fetch_all(several, [[url]] * 60)
    assert {each.status for each in found} == {"connection"}
    assert 20 <= len(connects) < 60 * 4


def test_the_connection_goes_to_the_address_that_was_checked(
    server: Server, params: ImagesSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves to a public address first and to a private one later must stay with the first."""
    answers = iter(["93.184.216.34", "127.0.0.1", "127.0.0.1"])
    asked = []

    async def rebinding(self: Any, host: str, *args: Any, **options: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 0))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", rebinding)
    connects = []

    async def no_connection(self: Any, sock: socket.socket, address: Any) -> None:
        connects.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", no_connection)
    closed = params.model_copy(update={"allow_hosts": [], "retries": 2})
    port = server.server_address[1]
    found = fetch_all(closed, [[f"http://rebinding.example:{port}/img/1.jpg"]])
    assert found[0].status == "connection"
    assert asked == ["rebinding.example"]
    assert {address[0] for address in connects} == {"93.184.216.34"}
    assert not server.hits


def test_one_private_address_closes_a_name(params: ImagesSection, monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(self: Any, host: str, *args: Any, **options: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (address, 0)) for address in ("93.184.216.34", "10.0.0.1")]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", both)
    assert fetch_all(params, [["http://both.example/x.jpg"]])[0].status == "forbidden"


def test_an_unknown_name_is_a_connection_that_fails(params: ImagesSection) -> None:
    assert fetch_all(params, [["http://no-such-name.invalid/x.jpg"]])[0].status == "connection"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("64:ff9b::808:808", True),
        ("::ffff:8.8.8.8", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("2001:0:a00:1::f5ff:fffe", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_global(address) is public


def test_a_changed_version_is_fetched_and_a_known_one_is_not(server: Server, params: ImagesSection) -> None:
    url = server.url("img/1.jpg")
    first = fetch_all(params, [[url]])[0]
    assert first.validator == Validator(url, '"img/1.jpg-False"')
    again = fetch_all(params, [[url]], first.validator)[0]
    assert (again.status, again.content) == ("unchanged", None)
    server.mended = True
    assert fetch_all(params, [[url]], first.validator)[0].content == jpeg(1001)
    assert Validator(url, "", "Mon").conditions() == {"If-Modified-Since": "Mon"}


@pytest.mark.parametrize("size", [10_000, 40_000])
def test_packed_bodies_are_unpacked_within_the_limit(
    server: Server, params: ImagesSection, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    packed = {"Content-Encoding": "gzip"}
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.send(200, gzip.compress(bytes(size)), headers=packed))
    found = fetch_all(params, [[server.url("x")]])[0]
    assert (found.status, found.content) == (("ok", bytes(size)) if size < params.max_bytes else ("too_large", None))
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.send(200, b"nothing packed", headers=packed))
    assert fetch_all(params, [[server.url("x")]])[0].status == "not_an_image"


def test_big_bodies_take_turns(server: Server, params: ImagesSection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SMALL", 1000)
    monkeypatch.setattr(web, "_BIG_BYTES", 20_000)
    monkeypatch.setattr(Handler, "do_GET", lambda self: (time.sleep(0.05), self.send(200, bytes(5000)))[1])
    urls = [[server.url(f"{i}")] for i in range(6)]
    assert [len(each.content or b"") for each in fetch_all(params, urls)] == [5000] * 6


@pytest.mark.parametrize(
    ("offered", "wanted", "spoken"),
    [
        (("h2", "http/1.1"), True, "h2"),
        (("http/1.1",), True, "http/1.1"),
        (("h2", "http/1.1"), False, "http/1.1"),
    ],
)
def test_http2_is_spoken_where_offered(
    certificate: tuple[Path, Path], params: ImagesSection, offered: tuple[str, ...], wanted: bool, spoken: str
) -> None:
    server = Http2Server(*certificate, jpeg(), offered)
    host = f"localhost:{server.port}"
    chosen = params.model_copy(update={"allow_hosts": [host], "http2": wanted})
    found = fetch_all(chosen, [[f"https://{host}/{i}"] for i in range(8)])
    server.close()
    assert [each.content for each in found] == [jpeg()] * 8
    assert server.requests == {spoken: 8}
    assert spoken != "h2" or server.hosts == {host: 8}


def test_http2_has_the_same_limits(certificate: tuple[Path, Path], params: ImagesSection) -> None:
    server = Http2Server(*certificate, jpeg())
    host = f"localhost:{server.port}"
    opened = params.model_copy(update={"allow_hosts": [host]})
    statuses = [each.status for each in fetch_all(opened, [[f"https://{host}/404"], [f"https://{host}/big"]])]
    assert statuses == ["http_404", "too_large"]
    assert fetch_all(params, [[f"https://{host}/"]])[0].status == "forbidden"
    server.close()


def test_certificates_are_checked(certificate: tuple[Path, Path], params: ImagesSection, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for http2 in (True, False):
        server = Http2Server(*make_certificate(tmp_path / "other"), jpeg())
        host = f"localhost:{server.port}"
        opened = params.model_copy(update={"allow_hosts": [host], "http2": http2})
        assert fetch_all(opened, [[f"https://{host}/"]])[0].status == "connection"
        server.close()


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("http://Shop.Example/a b/\u00fc.jpg?q=\u00e9 x", "http://shop.example/a%20b/%C3%BC.jpg?q=%C3%A9%20x"),
        ("https://shop.example:443", "https://shop.example/"),
        ("http://shop.example:81/%7Ea%2Fb%zz#part", "http://shop.example:81/%7Ea%2Fb%25zz"),
        (" http://b\u00fccher.example/x ", "http://xn--bcher-kva.example/x"),
        ("http://ann:p%40ss@shop.example/x", "http://shop.example/x"),
        ("http://[2001:DB8::1]:80/x", "http://[2001:db8::1]/x"),
    ],
)
def test_urls_are_made_fit_to_send(text: str, sent: str) -> None:
    assert parse_url(text).url == sent
    assert parse_url(sent).url == sent


@given(st.text(st.characters(codec="utf-8", exclude_characters="#?"), max_size=30))
def test_every_path_ends_up_in_ascii_and_stays(path: str) -> None:
    url = parse_url(f"http://shop.example/{path}").url
    assert url.isascii()
    assert " " not in url
    assert parse_url(url).url == url


def test_redirects_take_credentials_along_only_within_the_origin() -> None:
    here = parse_url("http://ann:pass@shop.example/a/b.jpg")
    assert here.redirected("../c d.jpg").auth == ("ann", "pass")
    assert here.redirected("../c d.jpg").url == "http://shop.example/c%20d.jpg"
    for elsewhere in ("//other.example/x", "https://shop.example/", "http://shop.example:81/"):
        assert here.redirected(elsewhere).auth is None
    assert here.redirected("http://bob:x@other.example/").auth == ("bob", "x")
    with pytest.raises(ValueError, match="neither"):
        here.redirected("ftp://shop.example/x")


def test_passwords_are_not_shown() -> None:
    assert without_credentials("http://ann:p@ss@shop.example/a@b") == "http://shop.example/a@b"
    assert without_credentials("file:a@b.jpg") == "file:a@b.jpg"


def test_statuses_and_groups_of_them() -> None:
    assert matches("http_503", ["timeout", "http_5xx"])
    assert matches("timeout", ["timeout"])
    assert not matches("http_404", ["timeout", "http_5xx"])
    assert [is_pattern(each) for each in ("ok", "http_5xx", "http_404", "http_9xx", "xx", "http_")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_a_failed_look_up_is_not_remembered(
    params: ImagesSection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers: Iterator[Any] = iter([OSError(), [(socket.AF_INET, 1, 6, "", ("8.8.8.8", 0))]])

    async def later(self: Any, host: str, *args: Any, **options: Any) -> Any:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def twice() -> list[tuple[int, str]]:
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", later)
        hosts = Hosts(Policy(params, tmp_path), 1, 1)
        with pytest.raises(Exception, match="connection"):
            await hosts.addresses("late.example", 80)
        return await hosts.addresses("late.example", 80)

    assert asyncio.run(twice()) == [(socket.AF_INET, "8.8.8.8")]
