"""`labelstack serve`: the version is compared, then served, and nothing stays behind."""

from __future__ import annotations

import base64
import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ensemble.test_serving import Served
from labelstack.commands import serve
from labelstack.ensemble.integrity import ENSEMBLE, ChangedError
from labelstack.params.tracking import TrackingSection
from labelstack.support.errors import UserError
from labelstack.tracking.runs import Tracker, connect
from registry.kept_version import KEPT, expected, put
from stores import answers, free_port, wait_for
from tiny import environment


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    """A store in which the kept version is number 1."""
    found = connect(TrackingSection(), tmp_path_factory.mktemp("serve"))
    put(found)
    return found


@pytest.fixture
def here(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    for name in (serve.TIMEOUT, serve.MAX_ROWS, serve.MAX_BYTES, serve.DIGEST, serve._MODEL_PATH):
        monkeypatch.setenv(name, "")  # put back afterwards, whatever the command sets
    monkeypatch.chdir(tracker.root)
    return tracker.root


def files_of(tracker: Tracker) -> Path:
    (found,) = (tracker.root / "mlartifacts").rglob("MLmodel")
    return found.parent


def test_a_private_copy_is_served_with_the_limits_that_were_typed(
    here: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def started(application: str, **options: Any) -> None:
        copy = Path(os.environ[serve._MODEL_PATH].removeprefix("file://"))
        seen.update(options, copy=copy, place=copy.parent, digest=os.environ["LABELSTACK_FILES_DIGEST"])
        seen["rows"], seen["bytes"] = os.environ["LABELSTACK_MAX_ROWS"], os.environ["LABELSTACK_MAX_REQUEST_BYTES"]
        assert application == "labelstack.ensemble.guarded_app:app"
        assert (copy / ENSEMBLE / "blend.json").read_bytes() == (
            files_of(tracker) / ENSEMBLE / "blend.json"
        ).read_bytes()
        assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700

    monkeypatch.setattr("uvicorn.run", started)
    port = free_port()
    serve.run(None, "127.0.0.1", port, 2, serve.Bounds(100, 10_000, 30))
    assert (seen["rows"], seen["bytes"], seen["port"], seen["workers"]) == ("100", "10000", port, 2)
    assert seen["digest"] == tracker.client.get_model_version("labelstack", "1").tags["labelstack.files_digest"]
    assert not seen["place"].exists()
    said = capsys.readouterr().out
    assert said == f"serve: labelstack v1, files as registered → http://127.0.0.1:{port}/invocations; Ctrl-C ends it.\n"


def test_the_copy_goes_when_a_signal_ends_the_server(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def ended(*_: object, **__: object) -> None:
        seen.append(Path(os.environ[serve._MODEL_PATH].removeprefix("file://")))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("uvicorn.run", ended)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as over:
        serve.run("1", "127.0.0.1", free_port())
    assert over.value.code == 0
    assert not seen[0].exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_changed_version_never_starts(here: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: pytest.fail("started"))
    file = files_of(tracker) / "code/labelstack/sitecustomize.py"
    file.write_text("print('planted')")
    try:
        with pytest.raises(ChangedError, match=r"source, was changed"):
            serve.run("1", "127.0.0.1", free_port())
    finally:
        file.unlink()


def test_a_taken_port_is_told_before_anything_is_fetched(here: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="--port"):
        serve.run("1", "127.0.0.1", taken.getsockname()[1])


@pytest.mark.slow
def test_as_typed(here: Path, tracker: Tracker, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    (tmp_path / "tmp").mkdir()
    given = environment() | {"MLFLOW_TRACKING_URI": tracker.uri, "TMPDIR": str(tmp_path / "tmp")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["labelstack", "serve", "1", "--port", str(port)], cwd=here, env=given, stdout=output, stderr=output
        )
    try:
        wait_for(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/ping"), 120)
        assert process.poll() is None, log.read_text()
        served = Served(port, "", KEPT / "images", log, {})
        labels = expected()
        rows = served.rows([base64.b64encode((KEPT / "images" / name).read_bytes()).decode() for name in labels])
        assert [{key: row[key] for key in ("label_id", "labels")} for row in rows] == list(labels.values())
        assert list((tmp_path / "tmp").glob("labelstack-serve-*"))
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert not list((tmp_path / "tmp").glob("labelstack-serve-*"))
    finally:
        process.kill()
        process.wait(30)
