"""Fetching from real servers and files that behave badly."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TypeVar

import boto3
import pandas as pd
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from images.server import Handler, Server, jpeg
from labelstack.images.fetching import stores
from labelstack.images.fetching.fetch import Fetched, Fetcher
from labelstack.images.fetching.retries import retry_after
from labelstack.images.fetching.urls import host_of
from labelstack.images.pixels.decode import to_stored_jpeg
from labelstack.images.shards.fill import download_split
from labelstack.params.images import ImagesSection
from labelstack.support.errors import UserError

T = TypeVar("T")


def status(params: ImagesSection, *urls: str, root: Path = Path(), **changes: object) -> str:
    """The outcome of one image, without long pauses."""
    return fetched(params.model_copy(update=changes), urls, lambda data: to_stored_jpeg(data, 64, 90), root).status


def fetched(
    params: ImagesSection, urls: Sequence[str], accept: Callable[[bytes], T], root: Path = Path()
) -> Fetched[T]:
    async def fetch() -> Fetched[T]:
        async with Fetcher(params, root, backoff_s=0.01) as fetcher:
            return await fetcher.fetch(urls, accept)

    return asyncio.run(fetch())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("img/1.jpg", "ok"),
        ("redirect.jpg", "ok"),
        ("nowhere.jpg", "http_404"),
        ("gone.jpg", "http_410"),
        ("down.jpg", "http_503"),
        ("page.jpg", "not_an_image"),
        ("truncated.jpg", "damaged"),
        ("empty.jpg", "not_an_image"),
        ("long.jpg", "damaged"),
        ("short.jpg", "connection"),
        ("reset.jpg", "connection"),
        ("big.jpg", "too_large"),
        ("endless.jpg", "too_large"),
        ("loop.jpg", "http_301"),
        ("to-link-local.jpg", "forbidden"),
        ("to-file.jpg", "forbidden"),
        ("to-bad.jpg", "forbidden"),
        ("secret.jpg", "http_401"),
    ],
)
def test_every_answer_ends_in_one_status(server: Server, params: ImagesSection, path: str, expected: str) -> None:
    assert status(params, server.url(path)) == expected


@pytest.mark.parametrize("path", ["slow.jpg", "drip.jpg"])
def test_total_time_is_limited(server: Server, params: ImagesSection, path: str) -> None:
    """Without the limit the one is an image, and the other ends too short."""
    assert status(params, server.url(path), timeout_s=0.3) == "timeout"
    assert server.hits == {path: 1}


def test_content_is_what_the_server_sent(server: Server, params: ImagesSection) -> None:
    assert fetched(params, [server.url("redirect.jpg")], bytes).content == jpeg(7)


def test_transient_faults_are_retried(server: Server, params: ImagesSection) -> None:
    assert status(params, server.url("flaky.jpg"), retries=2) == "ok"
    assert server.hits["flaky.jpg"] == 3
    assert status(params, server.url("reset.jpg"), retries=2) == "connection"
    assert server.hits["reset.jpg"] >= 3


def test_lasting_faults_are_not_retried(server: Server, params: ImagesSection) -> None:
    for path in ("nowhere.jpg", "page.jpg", "big.jpg"):
        status(params, server.url(path), retries=3)
        assert server.hits[path] == 1


def test_retry_after_is_honoured(server: Server, params: ImagesSection) -> None:
    assert status(params, server.url("busy.jpg"), retries=1) == "ok"
    assert (server.hits["busy.jpg"], server.too_early) == (2, 0)


def test_retry_after_forms() -> None:
    later = datetime.now(UTC) + timedelta(seconds=30)
    assert retry_after("7") == 7
    assert 25 < retry_after(format_datetime(later)) <= 30
    assert 25 < retry_after(format_datetime(later.replace(tzinfo=None))) <= 30
    assert retry_after(format_datetime(later - timedelta(days=1))) == 0
    assert retry_after("soon") == 0


def test_urls_are_tried_in_order(server: Server, params: ImagesSection) -> None:
    assert status(params, server.url("nowhere.jpg"), server.url("page.jpg"), server.url("img/3.jpg")) == "ok"
    assert list(server.hits) == ["nowhere.jpg", "page.jpg", "img/3.jpg"]


def test_of_several_failures_the_transient_one_is_told(server: Server, params: ImagesSection) -> None:
    assert status(params, server.url("nowhere.jpg"), server.url("down.jpg")) == "http_503"
    assert status(params, server.url("nowhere.jpg"), server.url("page.jpg")) == "http_404"
    assert status(params) == "no_url"


def test_nobody_listens(server: Server, params: ImagesSection) -> None:
    server.server_close()
    server.shutdown()
    assert status(params, server.url("img/1.jpg")) == "connection"


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:1", "2130706433", "[::1]:1", "10.0.0.1", "169.254.169.254"])
def test_private_hosts_are_closed(params: ImagesSection, host: str) -> None:
    assert status(params, f"http://{host}/x.jpg", allow_hosts=[], timeout_s=1) == "forbidden"


def test_allow_hosts_opens_a_host_with_or_without_port(server: Server, params: ImagesSection) -> None:
    url = server.url("img/1.jpg")
    assert status(params, url, allow_hosts=["127.0.0.1"]) == "ok"
    assert status(params, url, allow_hosts=["127.0.0.1:80"]) == "forbidden"
    assert status(params, url.replace("127.0.0.1", "LOCALHOST"), allow_hosts=["localhost"]) == "ok"


@pytest.mark.parametrize(
    "url",
    ["", "x.jpg", "ftp://h/x", "gopher://h", "http://", "http:///x", "http://[bad", "http://h:99999999/", "data:,x"],
)
def test_odd_urls_are_refused(params: ImagesSection, url: str) -> None:
    assert status(params, url) == "forbidden"


def test_a_label_too_long_for_a_host_name_is_refused(params: ImagesSection) -> None:
    assert status(params, f"http://{'a' * 70}.example/x.jpg") == "forbidden"


def test_schemes_can_be_closed(server: Server, params: ImagesSection, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    assert status(params, server.url("img/1.jpg"), allow_schemes=["https"]) == "forbidden"
    assert status(params, "file:a.jpg", root=tmp_path, allow_schemes=["http"]) == "forbidden"
    assert status(params, "s3://b/k", allow_schemes=["http"]) == "forbidden"


def test_credentials_are_used_and_never_logged(
    server: Server, params: ImagesSection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for path in ("secret.jpg", "secret-moved.jpg"):
        assert status(params, f"http://ann:p%40ss@{server.host}/{path}?token=hush") == "ok"
    status(params, f"http://ann:p%40ss@{server.host}/nowhere.jpg?token=hush")
    assert "http_404" in caplog.text
    for word in ("ann", "p%40ss", "p@ss", "hush"):
        assert word not in caplog.text


def test_host_of_hides_everything_else() -> None:
    assert host_of("https://ann:secret@shop.example:8443/a?t=1") == "shop.example:8443"
    assert host_of("s3://bucket/key") == "s3://bucket"
    assert host_of("file:images/1.jpg") == "file"
    assert host_of("http://[oops") == host_of("nonsense") == "(malformed)"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set's folder with a picture, beside a file that must stay out of reach."""
    root = tmp_path / "dataset"
    (root / "images").mkdir(parents=True)
    (root / "images/a b.jpg").write_bytes(jpeg())
    (root / "images/gr\u00fcn.jpg").write_bytes(jpeg())
    Path(os.fsdecode(bytes(root) + b"/images/caf\xe9.jpg")).write_bytes(jpeg())  # a name in Latin-1
    (root / "images/big.jpg").write_bytes(bytes(30_000))
    (tmp_path / "outside.jpg").write_bytes(jpeg())
    (root / "images/link.jpg").symlink_to(tmp_path / "outside.jpg")
    (root / "images/inner.jpg").symlink_to("a b.jpg")
    (root / "images/loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(root / "images/pipe.jpg")
    return root


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:images/a%20b.jpg", "ok"),
        ("file:images/a b.jpg", "ok"),
        ("FILE:images/inner.jpg", "ok"),
        ("file://{root}/images/a%20b.jpg", "ok"),
        ("file://localhost{root}/images/a%20b.jpg", "ok"),
        ("file:images/none.jpg", "missing"),
        ("file:images", "missing"),
        ("file:images/pipe.jpg", "missing"),
        ("file:images/big.jpg", "too_large"),
        ("file:../outside.jpg", "forbidden"),
        ("file:images/%2e%2e/../../outside.jpg", "forbidden"),
        ("file:images/link.jpg", "forbidden"),
        ("file:///etc/passwd", "forbidden"),
        ("file://elsewhere{root}/images/a%20b.jpg", "forbidden"),
        ("file:images/%00.jpg", "missing"),
        ("file:images/loop.jpg", "missing"),
        ("file:images/a%20b.jpg/c.jpg", "missing"),
        ("file:images/" + 300 * "n" + ".jpg", "missing"),
        ("file:images/" + 300 * "\u00fc" + ".jpg", "missing"),
        ("file:" + 3000 * "images/" + "x.jpg", "missing"),
        ("file:images/%fc.jpg", "missing"),
        ("file:images/caf%e9.jpg", "ok"),
        ("file:images/gr%C3%BCn.jpg", "ok"),
        ("file:images/gr\u00fcn.jpg", "ok"),
        ("file:images/\udcff.jpg", "missing"),
        ("file:../" + 300 * "n" + ".jpg", "forbidden"),
    ],
)
def test_file_urls_stay_inside_the_root(root: Path, params: ImagesSection, url: str, expected: str) -> None:
    assert status(params, url.format(root=root), root=root) == expected


def test_names_that_no_file_can_have_do_not_stop_a_download(root: Path, params: ImagesSection, tmp_path: Path) -> None:
    urls = ["file:images/%00.jpg", "file:images/" + 300 * "n", "file:images/loop.jpg", "file:images/a b.jpg"]
    manifest = pd.DataFrame({"image_id": [1, 2, 3, 4], "url": [[url] for url in urls]})
    for _ in range(2):
        found = download_split(manifest, tmp_path / "out", params, root)
        assert found["status"] == {"missing": 3, "ok": 1}


def test_a_root_behind_a_link_works(root: Path, params: ImagesSection, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert status(params, "file:images/inner.jpg", root=tmp_path / "alias") == "ok"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server over HTTP with a few objects in ``pictures``; yields its endpoint."""
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    host, port = s3.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="pictures")
    for key, body in (("a/1.jpg", jpeg()), ("big.jpg", bytes(30_000)), ("page.jpg", b"<html>")):
        client.put_object(Bucket="pictures", Key=key, Body=body)
    yield endpoint
    s3.stop()


def test_s3(bucket: str, params: ImagesSection) -> None:
    expected = {
        "s3://pictures/a/1.jpg": "ok",
        "s3://pictures/none.jpg": "missing",
        "s3://nowhere/a.jpg": "missing",
        "s3://pictures/big.jpg": "too_large",
        "s3://pictures/page.jpg": "not_an_image",
        "s3://pictures": "forbidden",
        "s3://no such bucket!/x": "forbidden",
    }
    assert {url: status(params, url, s3_endpoint_url=bucket) for url in expected} == expected


def test_s3_without_credentials_is_the_users_to_mend(
    bucket: str, params: ImagesSection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with pytest.raises(UserError, match="AWS_ACCESS_KEY_ID"):
        status(params, "s3://pictures/a/1.jpg", s3_endpoint_url=bucket)


@pytest.mark.parametrize(("code", "expected"), [(503, "http_503"), (403, "http_403"), (0, "connection")])
def test_s3_server_that_fails(
    server: Server, params: ImagesSection, monkeypatch: pytest.MonkeyPatch, code: int, expected: str
) -> None:
    once = Config(retries={"max_attempts": 0, "mode": "standard"})
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    monkeypatch.setattr(stores, "s3_client", lambda url: boto3.client("s3", endpoint_url=url, config=once, **keys))
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.send(code) if code else self.reset())
    assert status(params, "s3://pictures/a.jpg", s3_endpoint_url=server.url("")) == expected
