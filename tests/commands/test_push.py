"""Sharing through S3 with the real DVC: over bad lines, after a kill, and into a fresh clone."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from labelstack.s3.place import NEEDED, Place, policy
from s3_server import CREDENTIALS, FAULTS, Proxy, credentials_in_environment, objects, s3_server
from sharing import cached, commit, fresh_clone, outputs, ran_nothing, run
from tiny import PATIENCE, Workspace, environment

PREFIX = "team/labelstack"
POLICY = policy(Place("bucket", PREFIX), NEEDED)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    credentials_in_environment(monkeypatch, tmp_path)
    with s3_server() as url:
        yield url


def stored(server: str) -> set[str]:
    return {key.removeprefix(f"{PREFIX}/") for key in objects(server, prefix=PREFIX)}


def sent(proxy: Proxy, since: int = 0) -> Counter[str]:
    """How often each object was put and stored."""
    done = [request for request in proxy.requests[since:] if request.action == "s3:PutObject"]
    return Counter(request.key.removeprefix(f"{PREFIX}/") for request in done if request.fault in ("", "lost"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A DVC project with a folder of sixty small files."""
    folder = tmp_path / "small"
    (folder / "data").mkdir(parents=True)
    for number in range(60):
        (folder / f"data/{number}").write_text(f"file {number}\n" * 100)
    run(folder, "dvc", "init", "-q", "--no-scm")
    run(folder, "dvc", "add", "-q", "data")
    return folder


def test_a_finished_pipeline_goes_over_a_bad_line_into_a_fresh_clone(
    finished: Workspace, tmp_path: Path, server: str
) -> None:
    origin = finished.copy(tmp_path / "origin").root
    with Proxy(server, share=0.05, seed=1, policy=POLICY) as proxy:
        run(origin, "labelstack", "remote", f"s3://bucket/{PREFIX}", "--endpoint-url", proxy.url)
        commit(origin)
        checked = len(proxy.requests)
        run(origin, "dvc", "push")
        assert {request.fault for request in proxy.requests[checked:]} == {"", *FAULTS}

        clone = fresh_clone(origin, tmp_path / "clone")
        run(clone, "dvc", "pull")
        # the policy that `labelstack remote` prints is all that DVC asks for
        assert [request for request in proxy.requests if request.fault == "403" and request.key] == []
        assert [request for request in proxy.requests[checked:] if request.fault == "403"] == []
        # the origin's cache may hold objects of earlier tries, which nobody needs
        assert cached(clone) <= stored(server) <= cached(origin)
    assert outputs(clone) == outputs(origin)
    assert len(outputs(clone)) > 100
    assert ran_nothing(run(clone, "dvc", "repro").stdout)
    for file in (clone / ".dvc/config", clone / "dvc.lock"):
        assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in file.read_text()


def test_a_killed_push_goes_on_with_what_is_missing(small: Path, server: str) -> None:
    with Proxy(server, latency=0.05) as proxy:
        run(small, "labelstack", "remote", f"s3://bucket/{PREFIX}", "--endpoint-url", proxy.url)
        start = len(proxy.requests)
        process = subprocess.Popen(
            ["dvc", "push", "-q"], cwd=small, env=environment(), start_new_session=True, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + PATIENCE
        while len(sent(proxy, start)) < 20:
            assert process.poll() is None, "the push ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(1)  # what was under way when the client died is stored or dropped
        there, again = stored(server), len(proxy.requests)
        assert 5 <= len(there) < 60
        run(small, "dvc", "push", "-q")
        assert sent(proxy, again) == Counter(cached(small) - there)
        assert stored(server) == cached(small)


def test_a_push_that_fails_says_so_and_the_next_one_completes_it(small: Path, server: str) -> None:
    with Proxy(server) as proxy:
        run(small, "labelstack", "remote", f"s3://bucket/{PREFIX}", "--endpoint-url", proxy.url)
        proxy.policy = policy(Place("bucket", PREFIX), set(NEEDED) - {"s3:PutObject"})
        result = run(small, "dvc", "push", ok=False)
        assert result.returncode != 0
        assert "failed to push" in result.stderr
        assert stored(server) == set()
        proxy.policy = POLICY
        run(small, "dvc", "push")
    assert stored(server) == cached(small)


@pytest.mark.long
def test_nothing_is_lost_where_a_fifth_of_all_requests_fails(small: Path, tmp_path: Path, server: str) -> None:
    with Proxy(server, seed=2) as proxy:
        run(small, "labelstack", "remote", f"s3://bucket/{PREFIX}", "--endpoint-url", proxy.url)
        proxy.share = 0.2  # what is pushed has the same keys each time, and with them the same faults
        run(small, "dvc", "push")
        assert stored(server) == cached(small)
        other = tmp_path / "other"
        other.mkdir()
        run(other, "dvc", "init", "-q", "--no-scm")
        for name in (".dvc/config", "data.dvc"):
            (other / name).write_bytes((small / name).read_bytes())
        run(other, "dvc", "pull")
        assert proxy.failed() > 20
    for file in (small / "data").iterdir():
        assert (other / "data" / file.name).read_bytes() == file.read_bytes()


def test_a_server_that_refuses_checksums_takes_a_push_and_gives_it_back(
    small: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CONFIG_FILE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with Proxy(server, refuses_checksums=("501", "NotImplemented")) as proxy:
        run(small, "dvc", "remote", "add", "-d", "plain", "s3://bucket/plain")
        run(small, "dvc", "remote", "modify", "plain", "endpointurl", proxy.url)
        assert run(small, "dvc", "push", ok=False).returncode != 0  # without the settings
        run(small, "labelstack", "remote", f"s3://bucket/{PREFIX}", "--endpoint-url", proxy.url)
        before = len(proxy.requests)
        run(small, "dvc", "push")
        assert stored(server) == cached(small)
        other = tmp_path / "other"
        other.mkdir()
        run(other, "dvc", "init", "-q", "--no-scm")
        for name in (".dvc/config", ".dvc/aws-config", "data.dvc"):
            (other / name).write_bytes((small / name).read_bytes())
        run(other, "dvc", "pull")
        assert {request.fault for request in proxy.requests[before:]} == {""}
    assert cached(other) == cached(small)
