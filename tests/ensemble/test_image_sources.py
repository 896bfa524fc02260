"""Images given in any way, good and hostile, against a real web server and a real S3 server on loopback."""

from __future__ import annotations

import asyncio
import base64
import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from images.server import Handler, Server, jpeg
from labelstack.ensemble import image_sources as sources
from labelstack.ensemble import remote_images as fetching
from labelstack.ensemble.image_sources import ImageSources, fetch_settings, read_local, shown
from labelstack.images.pixels.decode import to_stored_jpeg
from labelstack.params.images import ImagesSection
from labelstack.support.errors import UserError

IMAGE = jpeg(5)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def web(server: Server) -> ImageSources:
    return ImageSources(settings(server))


def settings(server: Server, **change: Any) -> ImagesSection:
    limits = {"allow_hosts": [server.host], "timeout_s": 2, "retries": 0, "max_bytes": 20_000, "concurrency": 4}
    return ImagesSection(**{**limits, **change})


def pixels(data: bytes) -> int:
    """The number of an image's pixels, as real work on its bytes."""
    _, width, height = to_stored_jpeg(data, 64, 90)
    return width * height


def outcomes(found: ImageSources, given: list[Any], **more: Any) -> list[int | str]:
    """The work's result for every image, or its error."""
    rows: list[int | str] = []
    for future in found.each(given, pixels, **more):
        try:
            rows.append(future.result(20))
        except UserError as error:
            rows.append(str(error))
    return rows


def error(found: ImageSources, image: Any) -> str:
    (row,) = outcomes(found, [image])
    assert isinstance(row, str), row
    return row


def test_all_ways_may_be_mixed_and_keep_their_order(web: ImageSources, server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1, 30, 30))
    text = base64.b64encode(jpeg(2, 20, 20)).decode()
    given = [
        server.url("img/3.jpg"),
        str(tmp_path / "a.jpg"),
        text,
        b"broken",
        jpeg(4, 10, 10),
        "  " + server.url("redirect.jpg"),
        f"data:image/jpeg;base64,{text}",
        tmp_path / "a.jpg",
        server.url("gone.jpg"),
        None,
    ]
    found = outcomes(web, given)
    assert [row for row in found if isinstance(row, int)] == [1200, 900, 400, 100, 1200, 400, 900]
    assert [isinstance(row, str) for row in found] == [False, False, False, True, *[False] * 4, True, True]
    assert found[8] == f"{server.host}: answered HTTP 410 (Gone)"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("page.jpg", "not an image that can be read"),
        ("truncated.jpg", "a damaged image"),
        ("empty.jpg", "not an image that can be read"),
        ("big.jpg", "larger than 20000 bytes"),
        ("endless.jpg", "larger than 20000 bytes"),
        ("reset.jpg", "the connection failed"),
        ("nothing.jpg", "answered HTTP 404 (Not Found)"),
        ("down.jpg", "answered HTTP 503 (Service Unavailable)"),
        ("loop.jpg", "answered HTTP 301 (Moved Permanently)"),
        ("to-link-local.jpg", "not allowed"),
        ("to-file.jpg", "not allowed"),
        ("to-bad.jpg", "not allowed"),
    ],
)
def test_what_goes_wrong_on_the_web_is_one_sentence(web: ImageSources, server: Server, path: str, text: str) -> None:
    found = error(web, server.url(path))
    assert found.startswith(f"{server.host}: {text}")
    assert "\n" not in found


def test_a_slow_server_ends_at_the_time_limit(server: Server) -> None:
    found = ImageSources(settings(server, timeout_s=0.3))
    assert error(found, server.url("slow.jpg")) == f"{server.host}: no answer in time"


def test_a_deadline_holds_for_all_images_together(server: Server, tmp_path: Path) -> None:
    found = ImageSources(settings(server, timeout_s=30, retries=3, concurrency=1))
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    server.delay = 0.6
    given = [*(server.url(f"img/{i}.jpg") for i in range(20)), str(tmp_path / "a.jpg")]
    rows = outcomes(found, given, deadline=time.monotonic() + 3)
    assert len(server.hits) < 10  # one at a time: nobody asks for the others any more
    assert rows[0] == 1200
    assert rows[19] == f"{server.host}: no answer in time"
    assert rows[20] == 1200  # files wait for nobody


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[::ffff:7f00:1]", "2130706433"],
)
def test_private_hosts_are_closed(server: Server, host: str) -> None:
    port = server.host.rpartition(":")[2]
    found = error(ImageSources(ImagesSection(retries=0, timeout_s=2)), f"http://{host}:{port}/img/1.jpg")
    assert "not allowed" in found
    assert not server.hits


def test_a_redirect_to_another_local_port_is_not_followed(server: Server) -> None:
    inner = Server()

    class Redirecting(Handler):
        def versioned(self, path: str, body: bytes) -> None:
            self.send(302, headers={"Location": inner.url(path)})

    server.RequestHandlerClass = Redirecting
    try:
        assert "not allowed" in error(ImageSources(settings(server)), server.url("img/1.jpg"))
        assert not inner.hits
        assert outcomes(ImageSources(settings(server, allow_hosts=["127.0.0.1"])), [server.url("img/1.jpg")]) == [1200]
    finally:
        inner.shutdown()
        inner.server_close()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "file:x.jpg", "FILE:/etc/passwd", "ftp://host/a", "gs://b/k"])
def test_other_schemes_are_not_taken(web: ImageSources, url: str) -> None:
    assert error(web, url).startswith(f"{url.partition(':')[0].lower()}: URLs are not taken; ")


def test_schemes_can_be_closed(server: Server) -> None:
    assert "not allowed" in error(ImageSources(settings(server, allow_schemes=["s3", "file"])), server.url("img/1.jpg"))
    assert not server.hits


@pytest.mark.parametrize(
    "template",
    [
        "http://ann:hunter2@{host}/gone.jpg?token=hunter2#hunter2",
        "http://ann:hunter2@127.0.0.1:1/hunter2.jpg?X-Amz-Signature=hunter2",
        "http://ann:hunter2@[bad/hunter2",
        "ftp://ann:hunter2@{host}/x?token=hunter2",
        "s3://ann:hunter2@/key?hunter2",
        "file://ann:hunter2@host/hunter2",
        "http:/ann:hunter2@{host}/gone.jpg?token=hunter2",
        "ann:hunter2@{host}/gone.jpg?token=hunter2",
        "data:text/plain;hunter2,hunter2-hunter2",
    ],
)
def test_errors_do_not_tell_secrets(web: ImageSources, server: Server, template: str) -> None:
    assert "hunter2" not in error(web, template.format(host=server.host))


def test_credentials_in_a_url_are_sent(web: ImageSources, server: Server) -> None:
    assert outcomes(web, [f"http://ann:p%40ss@{server.host}/secret.jpg"]) == [1200]
    assert error(web, server.url("secret.jpg")) == f"{server.host}: answered HTTP 401 (Unauthorized)"


def test_the_environment_opens_hosts_and_closes_paths(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    given = [server.url("img/1.jpg"), str(tmp_path / "a.jpg"), base64.b64encode(IMAGE).decode()]
    monkeypatch.setenv("LABELSTACK_ALLOW_HOSTS", f" example.com, {server.host} ,")
    assert outcomes(ImageSources.from_settings({}), given) == [1200, 1200, 1200]
    monkeypatch.setenv("LABELSTACK_ALLOW_PATHS", "0")
    monkeypatch.delenv("LABELSTACK_ALLOW_HOSTS")
    closed = ImageSources.from_settings(fetch_settings(ImagesSection(retries=0)))
    url, path, text = outcomes(closed, given)
    assert "not allowed" in str(url)
    assert "paths are not read here" in str(path)
    assert text == 1200
    assert "paths are not read here" in error(closed, "/etc/passwd")
    assert error(closed, tmp_path / "a.jpg") == error(closed, str(tmp_path / "a.jpg"))


def test_settings_survive_json_and_unknown_keys() -> None:
    kept = fetch_settings(ImagesSection(allow_hosts=["cdn.internal"], max_bytes=5000, s3_endpoint_url="http://s3:9000"))
    found = ImageSources.from_settings({**kept, "store_size": 3, "of_tomorrow": 1})
    assert found.images.allow_hosts == ["cdn.internal"]
    assert found.images.max_bytes == 5000
    assert found.images.s3_endpoint_url == "http://s3:9000"
    assert found.images.allow_schemes == ["http", "https", "s3"]  # no file: URLs


def test_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    from moto.server import ThreadedMotoServer

    from labelstack.support.storage import s3_client

    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    try:
        host, port = s3.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = s3_client(endpoint)
        client.create_bucket(Bucket="photos")
        client.put_object(Bucket="photos", Key="a b.jpg", Body=IMAGE)
        client.put_object(Bucket="photos", Key="note.txt", Body=b"hello")
        found = ImageSources(ImagesSection(s3_endpoint_url=endpoint, retries=0))
        rows = outcomes(found, ["s3://photos/a b.jpg", "s3://photos/gone.jpg", "s3://photos/note.txt", "s3://photos"])
        assert rows[0] == 1200
        assert rows[1:3] == ["s3://photos: no such image", "s3://photos: not an image that can be read"]
        assert "not allowed" in str(rows[3])
    finally:
        s3.stop()


def test_s3_without_credentials_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    found = ImageSources(ImagesSection(s3_endpoint_url="http://127.0.0.1:1", retries=0))
    assert "AWS_ACCESS_KEY_ID" in error(found, "s3://photos/a.jpg")


def test_an_event_loop_that_runs_already_does_not_matter(web: ImageSources, server: Server) -> None:
    async def serve() -> list[int | str]:
        return await asyncio.to_thread(outcomes, web, [server.url("img/1.jpg")]) + outcomes(web, [IMAGE])

    assert asyncio.run(serve()) == [1200, 1200]


def test_many_threads_share_the_connections(server: Server) -> None:
    found = ImageSources(settings(server, concurrency=4, concurrency_per_host=3))
    server.delay = 0.02
    results: list[list[int | str]] = []

    def ask(start: int) -> None:
        results.append(outcomes(found, [server.url(f"img/{start + i}.jpg") for i in range(10)]))

    threads = [threading.Thread(target=ask, args=(100 * i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[1200] * 10] * 5
    assert server.busiest <= 3


def test_the_fetcher_is_renewed_before_it_knows_too_many_hosts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_RENEWED_AFTER", 3)
    found = ImageSources(settings(server, concurrency=2))
    server.delay = 0.01
    assert outcomes(found, [server.url(f"img/{i}.jpg") for i in range(20)]) == [1200] * 20
    assert outcomes(found, [server.url("img/1.jpg")]) == [1200]
    assert found._fetching is not None
    assert found._fetching._shift is not None
    assert found._fetching._shift.begun <= 3


def test_threads_end_with_their_owner(server: Server) -> None:
    found = ImageSources(settings(server))
    assert outcomes(found, [server.url("img/1.jpg")]) == [1200]
    assert found._fetching is not None
    thread = found._fetching._thread
    del found
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def _in_child(found: ImageSources, url: str, path: str, pipe: Any) -> None:
    pipe.send(outcomes(found, [url, path]))


def test_a_forked_process_gets_threads_of_its_own(web: ImageSources, server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    given = server.url("img/1.jpg"), str(tmp_path / "a.jpg")
    assert outcomes(web, list(given)) == [1200, 1200]
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(web, *given, there))
    child.start()
    assert here.poll(20)
    assert here.recv() == [1200, 1200]
    child.kill()
    child.join()


def test_ways_to_give_an_image_that_is_here(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(IMAGE)
    text = base64.b64encode(IMAGE).decode()
    for given in (IMAGE, bytearray(IMAGE), memoryview(IMAGE), tmp_path / "a.png", str(tmp_path / "a.png")):
        assert read_local(given) == IMAGE
    for wrapped in (text, text[:2] + "\n" + text[2:], f"data:image/png;base64,{text}"):
        assert read_local(wrapped) == IMAGE
    long = os.urandom(9000)
    assert read_local(base64.b64encode(long).decode()) == long


class BytesPath:
    """As ``os.scandir`` gives them in a folder that was named with bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> bytes:
        return os.fsencode(self.path)


def test_names_that_are_no_text_and_cells_that_are_nothing(tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"ro\xff.jpg")
    strange.write_bytes(IMAGE)
    given = [pd.NA, pd.NaT, float("nan"), BytesPath(strange), str(strange), "x" * 300, "-x" * 3000, "\ud800.jpg"]
    rows = outcomes(ImageSources(), given)
    assert rows[:3] == ["no image is given"] * 3
    assert rows[3:5] == [1200, 1200]
    assert all(str(row).endswith(": neither a readable image file nor base64 of one") for row in rows[5:])


@pytest.mark.parametrize(
    "given", [3, None, float("nan"), "", "data:image/png;base64,", "data:nothing", "no/such.jpg", "nul\0byte", "../"]
)
def test_what_is_no_image_is_named(given: object) -> None:
    with pytest.raises(UserError):
        read_local(given)


def test_what_looks_like_base64_but_holds_no_image_says_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ImageSources()
    assert error(found, "photos/no1234") == "photos/no1234: neither a readable image file nor base64 of one"
    assert error(found, base64.b64encode(bytes(9000)).decode()) == "the given bytes: not an image that can be read"
    assert error(found, "data:image/png;base64,AAAA") == "the given bytes: not an image that can be read"
    assert error(found, "!garbage!") == "!garbage!: neither a readable image file nor base64 of one"
    monkeypatch.chdir(tmp_path)
    Path("note.txt").write_text("hello")
    assert error(found, "note.txt") == "note.txt: not an image that can be read"


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGE)

    def denied(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "open", denied)  # root may read every file
    assert error(ImageSources(), str(tmp_path / "a.jpg")).endswith("a.jpg: the file may not be read")


def test_failures_of_the_work_are_not_told_in_full() -> None:
    def work(_: bytes) -> None:
        raise RuntimeError("hunter2")

    (future,) = ImageSources().each([IMAGE], work)
    with pytest.raises(UserError, match=r"could not be read \(RuntimeError\)$"):
        future.result()


def test_size_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_IMAGE_BYTES", 2)
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    for given in (IMAGE, str(tmp_path / "a.jpg")):
        with pytest.raises(UserError, match="larger than 2 bytes"):
            read_local(given)


def test_a_shown_path_is_short_and_tells_no_secret() -> None:
    assert shown("a/b.jpg") == "a/b.jpg"
    assert shown("user:pass@host/b.jpg?token=x") == "host/b.jpg…"
    assert shown("x" * 200) == "x" * 80 + "…"
