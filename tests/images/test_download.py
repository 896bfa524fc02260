"""What a download keeps, repeats and gives up; processes that build shards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from images.server import Server
from labelstack.compute.engine import run_here
from labelstack.images.fetching.validators import read_validators
from labelstack.images.pixels.decode import decode
from labelstack.images.shards import crew
from labelstack.images.shards import shard_files as shards
from labelstack.images.shards.build import Job, as_task, build_shard
from labelstack.images.shards.fill import TooManyFailuresError, download_split
from labelstack.params.images import ImagesSection
from labelstack.support.errors import UserError


def manifest_of(urls: list[list[str]]) -> pd.DataFrame:
    return pd.DataFrame({"image_id": np.arange(1, len(urls) + 1), "url": urls})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def urls(server: Server) -> list[list[str]]:
    return [[server.url(f"img/{i}.jpg")] for i in range(35)]


def test_appended_images_change_only_the_last_shard_and_fetch_only_themselves(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]]
) -> None:
    download_split(manifest_of(urls[:25]), tmp_path / "a", params, tmp_path)
    before = contents(tmp_path / "a")
    server.hits.clear()
    download_split(manifest_of(urls), tmp_path / "a", params, tmp_path)
    assert set(server.hits) == {f"img/{i}.jpg" for i in range(25, 35)}
    after = contents(tmp_path / "a")
    assert [name for name in after if before.get(name) != after[name]] == ["shard-00002.parquet", "shard-00003.parquet"]
    download_split(manifest_of(urls), tmp_path / "b", params, tmp_path)
    assert after == contents(tmp_path / "b")


def test_a_changed_url_fetches_one_image(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]]
) -> None:
    download_split(manifest_of(urls[:10]), tmp_path / "a", params, tmp_path)
    server.hits.clear()
    urls[4] = [server.url("img/99.jpg")]
    download_split(manifest_of(urls[:10]), tmp_path / "a", params, tmp_path)
    assert dict(server.hits) == {"img/99.jpg": 1}
    stored = shards.read_shard(tmp_path / "a/shard-00000.parquet").bytes
    download_split(manifest_of(urls[:10]), tmp_path / "b", params, tmp_path)
    assert stored == shards.read_shard(tmp_path / "b/shard-00000.parquet").bytes


@pytest.mark.parametrize("workers", [None, 3])
def test_processes_write_the_same_shards_as_one(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]], workers: int | None
) -> None:
    urls[3], urls[7] = [server.url("nowhere.jpg")], []
    here = download_split(manifest_of(urls), tmp_path / "a", params, tmp_path)
    several = params.model_copy(update={"workers": workers})
    assert download_split(manifest_of(urls), tmp_path / "b", several, tmp_path) == here
    tasks = download_split(manifest_of(urls), tmp_path / "c", params, tmp_path, run=run_here)
    assert tasks == here
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


def test_one_shard_as_a_task(server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]]) -> None:
    job = Job(str(tmp_path / "one.parquet"), [5, 6], [urls[0], [server.url("down.jpg")]])
    outcome = build_shard(as_task(job, params, tmp_path))
    assert outcome["status"] == {"ok": 1, "http_503": 1}
    assert outcome["hosts"] == {server.host: 1}
    assert outcome["written"]
    again = build_shard(as_task(job, params, tmp_path))
    assert (again["written"], again["asked"]) == (False, {"http_503": 1})


def test_a_download_with_too_many_failures_stops_early_and_keeps_finished_shards(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]]
) -> None:
    down = [[server.url("nowhere.jpg")]] * 1000
    with pytest.raises(TooManyFailuresError, match=r"failed \(\d+ http_404\), more than images.max_failures = 0.5"):
        download_split(manifest_of(urls + down), tmp_path / "a", params, tmp_path)
    assert server.hits["nowhere.jpg"] < 600
    kept = len(shards.shard_paths(tmp_path / "a"))
    assert kept >= 3
    server.hits.clear()
    patient = params.model_copy(update={"max_failures": 1})
    summary = download_split(manifest_of(urls + down), tmp_path / "a", patient, tmp_path)
    assert summary["status"] == {"http_404": 1000, "ok": 35}
    assert server.hits.total() == 1035 - 10 * kept


def test_the_budget_counts_what_was_there_before(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]]
) -> None:
    """A second run that meets only the failures of the first must not stop for that."""
    mixed = [urls[i % 35] if i % 3 else [server.url("down.jpg")] for i in range(240)]
    first = download_split(manifest_of(mixed), tmp_path / "a", params, tmp_path)
    assert first["status"] == {"http_503": 80, "ok": 160}
    assert download_split(manifest_of(mixed), tmp_path / "a", params, tmp_path) == first


def test_retry_asks_only_for_the_named_statuses(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]]
) -> None:
    urls[3], urls[13], urls[14] = ([server.url(f"{name}.jpg")] for name in ("nowhere", "down", "page"))
    download_split(manifest_of(urls), tmp_path / "a", params, tmp_path)
    before = contents(tmp_path / "a")
    server.hits.clear()
    server.mended = True
    found = download_split(manifest_of(urls), tmp_path / "a", params, tmp_path, again=["http_5xx"])
    assert dict(server.hits) == {"down.jpg": 1}
    assert (found["asked"], found["written"]) == ({"ok": 1}, ["shard-00001.parquet"])
    after = contents(tmp_path / "a")
    assert [name for name in after if before[name] != after[name]] == ["shard-00001.parquet"]
    assert found["status"] == {"http_404": 1, "not_an_image": 1, "ok": 33}


def test_refresh_takes_new_versions_and_loses_nothing(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]]
) -> None:
    side = tmp_path / "etags"
    rows = manifest_of(urls[:12])
    download_split(rows, tmp_path / "a", params, tmp_path, validators=side)
    old = contents(tmp_path / "a")
    assert set(old) == {"shard-00000.parquet", "shard-00001.parquet"}
    known = read_validators(side / "shard-00000.parquet")
    assert known[1].validator.etag == '"img/0.jpg-False"'

    same = download_split(rows, tmp_path / "a", params, tmp_path, refresh=True, validators=side)
    assert (same["asked"], same["written"]) == ({"unchanged": 12}, [])
    server.broken = True
    lost = download_split(rows, tmp_path / "a", params, tmp_path, refresh=True, validators=side)
    assert (lost["asked"], lost["written"], lost["ok"]) == ({"http_503": 12}, [], 12)
    server.broken, server.mended = False, True
    new = download_split(rows, tmp_path / "a", params, tmp_path, refresh=True, validators=side)
    assert (new["asked"], new["written"]) == ({"ok": 12}, sorted(old))
    assert contents(tmp_path / "a").keys() == old.keys()

    for name, content in old.items():  # an older state, as `dvc checkout` brings it back
        (tmp_path / "a" / name).write_bytes(content)
    back = download_split(rows, tmp_path / "a", params, tmp_path, refresh=True, validators=side)
    assert back["asked"] == {"ok": 12}
    (side / "shard-00000.parquet").write_bytes(b"torn")
    without = download_split(rows, tmp_path / "a", params, tmp_path, refresh=True, validators=side)
    assert (without["asked"], without["written"]) == ({"ok": 10, "unchanged": 2}, [])


def test_retry_and_refresh_need_a_finished_download(
    params: ImagesSection, tmp_path: Path, urls: list[list[str]]
) -> None:
    with pytest.raises(UserError, match="run `labelstack stage download` first"):
        download_split(manifest_of(urls), tmp_path / "a", params, tmp_path, again=["timeout"])


def test_images_are_read_without_copies(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]]
) -> None:
    urls[2] = [server.url("nowhere.jpg")]
    download_split(manifest_of(urls[:10]), tmp_path / "a", params, tmp_path)
    (path,) = shards.shard_paths(tmp_path / "a")
    whole, views = shards.read_shard(path), shards.read_jpegs(path)
    assert views.image_id.tolist() == whole.image_id.tolist()
    assert [None if view is None else bytes(view) for view in views.jpeg] == whole.bytes
    held = [np.frombuffer(view, np.uint8) for view in views.jpeg if view is not None]
    starts = [array.__array_interface__["data"][0] for array in held]
    assert np.diff(starts).tolist() == [len(array) for array in held[:-1]]  # one beside the other in one buffer
    np.testing.assert_array_equal(decode(views.jpeg[0], 24), decode(whole.bytes[0] or b"", 24))  # type: ignore


def test_a_finished_split_is_checked_without_reading_images(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params.model_copy(update={"verify": "none"})
    first = download_split(manifest_of(urls), tmp_path / "a", params, tmp_path)
    columns = []
    read = shards.pq.ParquetFile.read
    monkeypatch.setattr(
        shards.pq.ParquetFile, "read", lambda self, names: (columns.append(names), read(self, names))[1]
    )
    assert download_split(manifest_of(urls), tmp_path / "a", params, tmp_path) == first
    assert columns == [["image_id", "status"]] * 4


class _Crew:
    """Finds the child processes of a download that runs in a thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[Any] = []
        start = crew._SPAWN.Process
        monkeypatch.setattr(
            crew._SPAWN, "Process", lambda **k: self.started.append(start(**k)) or self.started[-1], raising=False
        )

    def kill_first(self, times: int, server: Server) -> None:
        killed = set[int]()
        deadline = time.monotonic() + 60
        while len(killed) < times and time.monotonic() < deadline:
            for process in self.started:
                if process.pid not in {*killed, None} and len(killed) < times and server.hits:
                    os.kill(process.pid, signal.SIGKILL)
                    killed.add(process.pid)
            time.sleep(0.01)


def _dies(pipe: Connection, *_: Any) -> None:
    pipe.send(None)
    pipe.recv()
    os._exit(3)


def test_a_killed_process_costs_only_time(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = download_split(manifest_of(urls), tmp_path / "a", params, tmp_path)
    server.hits.clear()
    server.delay = 0.1
    found = _Crew(monkeypatch)
    killer = threading.Thread(target=found.kill_first, args=(1, server))
    killer.start()
    several = params.model_copy(update={"workers": 2})
    assert download_split(manifest_of(urls), tmp_path / "b", several, tmp_path) == whole
    killer.join()
    assert len(found.started) == 3
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_shard_that_kills_its_process_twice_is_told(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "_work", _dies)
    several = params.model_copy(update={"workers": 2})
    with pytest.raises(UserError, match=r"shard-0000\d.parquet: the process that built it ended with code 3, twice"):
        download_split(manifest_of(urls), tmp_path / "b", several, tmp_path)


_CHILD = """
import json, sys, pandas as pd
from pathlib import Path
from labelstack.images.shards.fill import download_split
from labelstack.params.images import ImagesSection
manifest, out, params = sys.argv[1:]
download_split(pd.read_json(manifest), Path(out), ImagesSection(**json.loads(params)), Path())
"""


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_their_parent(
    server: Server, params: ImagesSection, tmp_path: Path, urls: list[list[str]], signal_: signal.Signals
) -> None:
    manifest_of(urls).to_json(tmp_path / "manifest.json")
    several = params.model_copy(update={"workers": 2, "timeout_s": 300, "first_byte_timeout_s": 300})
    server.delay = 100  # all of them are in the middle of a shard
    command = [sys.executable, "-c", _CHILD, tmp_path / "manifest.json", tmp_path / "a", several.model_dump_json()]
    parent = subprocess.Popen(
        command, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while server.hits.total() < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2
    os.killpg(parent.pid, signal_) if signal_ == signal.SIGINT else parent.kill()
    parent.wait(30)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_what_is_the_users_to_mend_comes_out_of_the_processes(
    params: ImagesSection, tmp_path: Path, urls: list[list[str]]
) -> None:
    (tmp_path / "a").mkdir()
    several = params.model_copy(update={"workers": 2})
    (tmp_path / "a" / "shard-00001.parquet").mkdir()  # where a file belongs
    with pytest.raises(UserError, match=r"shard-00001\.parquet"):
        download_split(manifest_of(urls), tmp_path / "a", several, tmp_path)
