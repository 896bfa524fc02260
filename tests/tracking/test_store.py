from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from labelstack.params.tracking import TrackingSection
from labelstack.support.errors import UserError
from labelstack.tracking import sqlite_uri, store
from labelstack.tracking.runs import connect


@contextmanager
def web_server(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_relative_sqlite_lies_under_the_root(tmp_path: Path) -> None:
    assert store.resolve_uri("sqlite:///runs/mlflow.db", tmp_path) == f"sqlite:///{tmp_path}/runs/mlflow.db"


def test_absolute_sqlite_stays(tmp_path: Path) -> None:
    assert store.resolve_uri("sqlite:////data/mlflow.db", tmp_path) == "sqlite:////data/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "file", "found"),
    [
        ("sqlite:///a b%20c.db?timeout=30", "a b c.db", "sqlite:///{root}/a b c.db?timeout=30"),
        ("sqlite:///a%2520b.db", "a%20b.db", "sqlite+pysqlite:///{root}/a%2520b.db"),
        ("sqlite:///x%3Fy/m.db", "x?y/m.db", "sqlite+pysqlite:///{root}/x%3Fy/m.db"),
        ("sqlite+pysqlite:///m.db", "m.db", "sqlite:///{root}/m.db"),
    ],
)
def test_escapes_mean_what_they_mean_to_sqlalchemy(tmp_path: Path, uri: str, file: str, found: str) -> None:
    from sqlalchemy.engine import make_url

    resolved = store.resolve_uri(uri, tmp_path)
    assert resolved == found.format(root=tmp_path)
    assert make_url(resolved).database == str(tmp_path / file)
    assert store.resolve_uri(resolved, tmp_path) == resolved
    public = store.public_uri(resolved, tmp_path)
    assert sqlite_uri.file_of(public, tmp_path) == tmp_path / file


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"ro\xff")
    root.mkdir()
    with pytest.raises(UserError, match=r"a folder whose name is not UTF-8: rename the folder, or set tracking\.uri"):
        connect(TrackingSection(), root)
    with pytest.raises(UserError, match=r"whose name is not UTF-8: .* tracking\.artifacts"):
        connect(TrackingSection(uri=f"sqlite:///{tmp_path}/m.db"), root)
    assert os.listdir(root) == []


def test_the_environment_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000/")
    assert store.resolve_uri("sqlite:///mlflow.db", tmp_path) == "http://server:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " ")
    assert store.resolve_uri("http://other", tmp_path) == "http://other"


@pytest.mark.parametrize(
    "uri", ["mlruns", "file:///tmp/mlruns", "sqlite://", "sqlite:///", "sqlite:///:memory:", "http://", "ftp://host/x"]
)
def test_other_addresses_are_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected sqlite:///<file>"):
        store.resolve_uri(uri, tmp_path)


def test_databases_are_accepted(tmp_path: Path) -> None:
    uri = "postgresql+psycopg2://user:secret@db/mlflow"
    assert store.resolve_uri(uri, tmp_path) == uri
    assert store.public_uri(uri, tmp_path) == "postgresql+psycopg2://db/mlflow"


def test_public_uri_tells_no_place_inside_the_project(tmp_path: Path) -> None:
    assert store.public_uri(f"sqlite:///{tmp_path}/mlflow.db", tmp_path) == "sqlite:///mlflow.db"
    assert store.public_uri("sqlite:////elsewhere/mlflow.db", tmp_path) == "sqlite:////elsewhere/mlflow.db"
    assert store.public_uri("https://user:pass@host:1/x", tmp_path) == "https://host:1/x"


def counted(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> list[dict[str, Any]]:
    """The keyword arguments of every call of a function."""
    calls: list[dict[str, Any]] = []
    call = getattr(import_module(module), name)

    def counting(*given: Any, **more: Any) -> Any:
        calls.append(more)
        return call(*given, **more)

    monkeypatch.setattr(f"{module}.{name}", counting)
    return calls


def test_a_file_that_is_no_database_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = counted(monkeypatch, "mlflow.store.db.utils", "create_sqlalchemy_engine")
    (tmp_path / "mlflow.db").write_text("something the user wrote")
    with pytest.raises(UserError, match="not a sqlite database"):
        connect(TrackingSection(), tmp_path)
    assert engines == []  # MLflow would make one again and again
    assert (tmp_path / "mlflow.db").read_text() == "something the user wrote"


def test_a_folder_in_the_place_of_the_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(UserError, match="can't be written"):
        connect(TrackingSection(), tmp_path)


def test_server_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(monkeypatch, "mlflow.utils.rest_utils", "http_request")
    with socket.socket() as listener:  # bound, not listening: refuses connections, and nobody else gets the port
        listener.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match=r"no answer within .* tracking\.uri") as raised:
            connect(TrackingSection(uri=f"http://user:secret@127.0.0.1:{listener.getsockname()[1]}"))
    assert [(call["max_retries"], call["timeout"]) for call in asked] == [(0, 5)]
    assert "secret" not in str(raised.value)


def test_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_REACH_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(UserError, match="no answer within 1 s"):
            connect(TrackingSection(uri=f"http://127.0.0.1:{listener.getsockname()[1]}"))
        listener.setblocking(False)
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):  # it was asked once
            listener.accept()


@pytest.mark.parametrize(("status", "text"), [(401, "MLFLOW_TRACKING_USERNAME"), (403, "refused"), (502, "HTTP 502")])
def test_server_that_refuses(status: int, text: str) -> None:
    with web_server(status) as address, pytest.raises(UserError, match=text):
        connect(TrackingSection(uri=f"http://{address}"))


def test_something_else_than_mlflow_answers() -> None:
    with web_server(404) as address, pytest.raises(UserError, match="could not open the experiment") as raised:
        connect(TrackingSection(uri=f"http://user:secret@{address}"))
    assert "secret" not in str(raised.value)


def test_locks_exclude_each_other(tmp_path: Path) -> None:
    with (
        store.locked(tmp_path),
        pytest.raises(UserError, match="holds the MLflow store"),
        store.locked(tmp_path, patience=0.2),
    ):
        pass
    with store.locked(tmp_path, patience=0):
        assert not list(tmp_path.iterdir())


def test_user_settings_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    store.open_client(f"sqlite:///{empty_database}")
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_copy_made_for_an_experiment_belongs_to_its_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    copy = tmp_path / "work" / ".dvc" / "tmp" / "exps" / "tmp123"
    (copy / "inner").mkdir(parents=True)
    assert store.main_root(copy) == tmp_path / "work"
    assert store.main_root(copy / "inner") == tmp_path / "work"
    assert store.main_root(tmp_path / "work") == tmp_path / "work"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "work"))
    assert store.main_root(copy) == tmp_path / "work"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))  # of a pipeline that started this one
    assert store.main_root(copy) == tmp_path / "work"
    assert store.main_root(tmp_path) == tmp_path


def test_runs_in_such_a_copy_are_in_the_workspace_s_store(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(root))
    copy = root / ".dvc" / "tmp" / "exps" / "tmp123"
    copy.mkdir(parents=True)
    tracker = connect(TrackingSection(experiment="new"), copy)
    with tracker.run("train", "m") as run:
        run.log_bytes(b"x", "a.txt")
    assert tracker.root == root
    assert tracker.public_uri == "sqlite:///mlflow.db"
    assert (root / "mlartifacts" / run.run_id / "artifacts" / "a.txt").exists()
    assert not list(copy.iterdir())
    assert connect(TrackingSection(), root).client.get_run(run.run_id).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("place", "expected"),
    [("s3://bucket/prefix", "s3://bucket/prefix"), ("other/place", "file://{root}/other/place"), (None, None)],
)
def test_where_artifacts_of_a_new_experiment_go(root: Path, place: str | None, expected: str | None) -> None:
    tracker = connect(TrackingSection(experiment="new", artifacts=place), root)
    location = tracker.client.get_experiment(tracker.experiment_id).artifact_location
    assert location == (expected or "file://{root}/mlartifacts").format(root=root.as_uri().removeprefix("file://"))


def test_a_database_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = counted(monkeypatch, "mlflow.store.db.utils", "create_sqlalchemy_engine")
    knocks = counted(monkeypatch, "socket", "create_connection")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        uri = f"postgresql+psycopg2://user:secret@127.0.0.1:{listener.getsockname()[1]}/mlflow"
        assert not store.answers(uri)
        with pytest.raises(UserError, match="nothing answers at") as raised:
            connect(TrackingSection(uri=uri))
    assert knocks == [{"timeout": 5}] * 2
    assert engines == []  # MLflow would try for minutes
    assert "secret" not in str(raised.value)


def test_databases_whose_port_is_not_known_are_just_tried() -> None:
    assert store.answers("postgresql:///mlflow?host=/var/run/postgresql")
    assert store.answers("postgresql://a:1,b:2/mlflow")


def test_errors_of_the_artifacts_store_are_explained() -> None:
    from botocore.exceptions import NoCredentialsError

    unable = pytest.raises(UserError, match=r"could not store x: Unable to locate credentials")
    with unable, store.explained("sqlite:///x", "store x"):
        raise NoCredentialsError
    with pytest.raises(ZeroDivisionError), store.explained("sqlite:///x", "store x"):
        raise ZeroDivisionError
