"""Downloads into shards: statuses, resuming, identical bytes, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from images.server import Server, jpeg
from labelstack.images.shards import build
from labelstack.images.shards import shard_files as shards
from labelstack.images.shards.fill import download_split
from labelstack.params.images import ImagesSection
from labelstack.support.errors import UserError
from labelstack.support.storage import sha256

_CHILD = """
import json, sys, pandas as pd
from pathlib import Path
from labelstack.images.shards.fill import download_split
from labelstack.params.images import ImagesSection
manifest, out, params = sys.argv[1:]
download_split(pd.read_json(manifest), Path(out), ImagesSection(**json.loads(params)), Path())
"""


def manifest_of(urls: list[list[str]]) -> pd.DataFrame:
    return pd.DataFrame({"image_id": np.arange(1, len(urls) + 1), "url": urls})


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(folder.iterdir())}


@pytest.fixture
def mixed(server: Server) -> pd.DataFrame:
    """25 images: three shards of ten, some of them faulty."""
    urls = [[server.url(f"img/{i}.jpg")] for i in range(25)]
    urls[3] = [server.url("nowhere.jpg")]
    urls[11] = []
    urls[12] = [server.url("page.jpg")]
    urls[20] = ["http://10.1.2.3/x.jpg"]
    return manifest_of(urls)


def test_every_image_is_accounted_for(
    mixed: pd.DataFrame, server: Server, params: ImagesSection, tmp_path: Path
) -> None:
    summary = download_split(mixed, tmp_path / "train", params, tmp_path)
    expected = {"forbidden": 1, "http_404": 1, "no_url": 1, "not_an_image": 1, "ok": 21}
    assert summary["status"] == expected
    assert (summary["images"], summary["ok"]) == (25, 21)
    assert summary["failures_by_host"] == {server.host: 2, "(no url)": 1, "10.1.2.3": 1}
    assert json.loads(json.dumps(summary)) == summary

    paths = shards.shard_paths(tmp_path / "train")
    assert [path.name for path in paths] == [f"shard-0000{i}.parquet" for i in range(3)]
    first = shards.read_shard(paths[0])
    assert first.image_id.tolist() == list(range(1, 11))
    assert (first.bytes[3], first.status[3], first.width[3], first.height[3]) == (None, "http_404", 0, 0)
    assert (first.status[0], first.width[0], first.height[0]) == ("ok", 32, 24)
    assert summary["bytes"] == sum(len(data or b"") for path in paths for data in shards.read_shard(path).bytes)

    frame = shards.status_frame(tmp_path / "train")
    assert frame["image_id"].tolist() == mixed["image_id"].tolist()
    assert frame["status"].value_counts().to_dict() == expected
    ok = shards.ok_ids(tmp_path / "train")
    assert ok.tolist() == [i for i in range(1, 26) if i not in {4, 12, 13, 21}]


def test_same_input_gives_the_same_bytes(mixed: pd.DataFrame, params: ImagesSection, tmp_path: Path) -> None:
    first = download_split(mixed, tmp_path / "a", params, tmp_path)
    second = download_split(mixed, tmp_path / "b", params.model_copy(update={"concurrency": 1}), tmp_path)
    assert first == second
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_finished_download_is_not_repeated(
    mixed: pd.DataFrame, server: Server, params: ImagesSection, tmp_path: Path
) -> None:
    first = download_split(mixed, tmp_path / "a", params, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    server.hits.clear()
    assert download_split(mixed, tmp_path / "a", params, tmp_path) == first
    assert not server.hits
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}


def test_only_transient_failures_are_asked_for_again(server: Server, params: ImagesSection, tmp_path: Path) -> None:
    urls = [[server.url(f"img/{i}.jpg")] for i in range(20)]
    urls[2], urls[4] = [server.url("nowhere.jpg")], [server.url("down.jpg")]
    urls[15] = [server.url("flaky.jpg")]
    manifest = manifest_of(urls)
    first = download_split(manifest, tmp_path / "a", params, tmp_path)
    assert first["status"] == {"http_404": 1, "http_500": 1, "http_503": 1, "ok": 17}
    server.hits.clear()
    server.hits["flaky.jpg"] = 2
    second = download_split(manifest, tmp_path / "a", params, tmp_path)
    assert second["status"] == {"http_404": 1, "http_503": 1, "ok": 18}
    assert dict(server.hits) == {"flaky.jpg": 3, "down.jpg": 1}
    download_split(manifest, tmp_path / "b", params, tmp_path)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_an_opened_host_is_asked_for_again(server: Server, params: ImagesSection, tmp_path: Path) -> None:
    manifest = manifest_of([[server.url("img/1.jpg")]])
    closed = params.model_copy(update={"allow_hosts": []})
    assert download_split(manifest, tmp_path / "a", closed, tmp_path)["status"] == {"forbidden": 1}
    assert download_split(manifest, tmp_path / "a", params, tmp_path)["status"] == {"ok": 1}


def test_changed_storage_params_store_anew(server: Server, params: ImagesSection, tmp_path: Path) -> None:
    manifest = manifest_of([[server.url(f"img/{i}.jpg")] for i in range(4)])
    download_split(manifest, tmp_path / "a", params, tmp_path)
    smaller = params.model_copy(update={"store_size": 16})
    download_split(manifest, tmp_path / "a", smaller, tmp_path)
    assert shards.status_frame(tmp_path / "a")["height"].tolist() == [16] * 4


def test_changed_local_files_are_noticed(params: ImagesSection, tmp_path: Path) -> None:
    manifest = manifest_of([["file:1.jpg"], ["file:2.jpg"], ["file:gone.jpg"]])
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(jpeg(1))
    assert download_split(manifest, tmp_path / "a", params, tmp_path)["status"] == {"missing": 1, "ok": 2}
    before = digests(tmp_path / "a")
    (tmp_path / "2.jpg").write_bytes(jpeg(2))
    download_split(manifest, tmp_path / "a", params, tmp_path)
    assert digests(tmp_path / "a") != before
    download_split(manifest, tmp_path / "b", params, tmp_path)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_what_does_not_belong_is_removed(mixed: pd.DataFrame, params: ImagesSection, tmp_path: Path) -> None:
    out = tmp_path / "a"
    download_split(mixed, out, params, tmp_path)
    (out / ".shard-00000.parquet.x1.parquet").write_bytes(b"half")
    (out / "shard-00001.parquet").write_bytes((out / "shard-00001.parquet").read_bytes()[:500])
    download_split(mixed.iloc[:15], out, params, tmp_path)
    assert [path.name for path in sorted(out.iterdir())] == ["shard-00000.parquet", "shard-00001.parquet"]
    assert len(shards.status_frame(out)) == 15


def test_nothing_to_download(params: ImagesSection, tmp_path: Path) -> None:
    summary = download_split(manifest_of([]), tmp_path / "a", params, tmp_path)
    assert summary == {"images": 0, "ok": 0, "bytes": 0, "status": {}, "failures_by_host": {}}
    assert len(shards.ok_ids(tmp_path / "a")) == 0


def test_a_torn_shard_is_told(tmp_path: Path) -> None:
    (tmp_path / "shard-00000.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(UserError, match="not a complete shard"):
        shards.ok_ids(tmp_path)


def test_an_error_stops_the_download_at_once(
    server: Server, params: ImagesSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, shard: shards.Shard, keys: list[str]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "write_shard", full)
    slow = params.model_copy(update={"retries": 8})
    urls = [[server.url(f"img/{i}.jpg")] for i in range(10)] + [[server.url("down.jpg")]] * 10
    with pytest.raises(UserError, match=r"shard-00000\.parquet: .*No space"):
        download_split(manifest_of(urls), tmp_path / "a", slow, tmp_path)
    assert server.hits["down.jpg"] < 10 * 9  # not every try of every image was waited for
    assert not list((tmp_path / "a").iterdir())


def _killed(command: list[str], out: Path, ready: Callable[[], bool]) -> None:
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 40
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_kill_9_loses_no_finished_shard_and_changes_nothing(
    server: Server, params: ImagesSection, tmp_path: Path
) -> None:
    manifest = manifest_of([[server.url(f"img/{i}.jpg")] for i in range(60)])
    download_split(manifest, tmp_path / "whole", params, tmp_path)
    manifest.to_json(tmp_path / "manifest.json")
    out = tmp_path / "killed"
    arguments = [str(tmp_path / "manifest.json"), str(out), params.model_dump_json()]
    server.delay = 0.1
    for wanted in (1, 3):
        _killed(
            [sys.executable, "-c", _CHILD, *arguments],
            out,
            lambda wanted=wanted: len(shards.shard_paths(out)) >= wanted,
        )
    kept = {path.name: path.stat().st_mtime_ns for path in shards.shard_paths(out)}
    assert 3 <= len(kept) < 6
    server.hits.clear()
    download_split(manifest, out, params, tmp_path)
    assert sum(server.hits.values()) == 60 - 10 * len(kept)
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in out.iterdir()}.items()
    assert digests(out) == digests(tmp_path / "whole")
