"""The file of a sqlite store: whole or absent after any kill, made once, waited for while another process writes."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from labelstack.params.tracking import TrackingSection
from labelstack.support.errors import UserError
from labelstack.tracking import outbox, sqlite_file, sqlite_uri, store
from labelstack.tracking.journal import Journal
from labelstack.tracking.runs import Tracker, connect


@pytest.fixture
def makings(monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> list[str]:
    """Stores are copies of one that MLflow made; how often one was made."""
    made: list[str] = []

    def make(uri: str) -> None:
        made.append(uri)
        time.sleep(0.3)
        shutil.copyfile(empty_database, sqlite_uri.file_of(uri, Path()))

    monkeypatch.setattr(sqlite_file, "_make", make)
    return made


def run_sql(file: Path, *lines: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        for line in lines:
            database.execute(line)


def half_made(file: Path, empty_database: Path) -> None:
    """What a kill in the middle leaves: some tables, the journal of an open transaction, and not a row of MLflow's."""
    shutil.copyfile(empty_database, file)
    run_sql(file, "DELETE FROM experiments", "DROP TABLE registered_models", "DELETE FROM alembic_version")
    os.utime(file, (time.time() - 60,) * 2)


def killed_child(after: int, root: Path) -> int:
    """The exit status of a child that opens a store and is killed -9 after so many tables."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        count = 0

        @event.listens_for(Engine, "before_cursor_execute")
        def executing(*given: object) -> None:
            nonlocal count
            count += "CREATE TABLE" in str(given[2]).upper()
            if count > after:
                os.kill(os.getpid(), signal.SIGKILL)

        os.environ["MLFLOW_LOGGING_LEVEL"] = "ERROR"
        connect(TrackingSection(), root)
    finally:
        os._exit(1)


@pytest.mark.parametrize("after", [3, 60])
def test_a_store_whose_making_is_killed_is_made_again(
    tmp_path: Path, after: int, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.WTERMSIG(killed_child(after, tmp_path)) == signal.SIGKILL
    left = [file.name for file in tmp_path.iterdir() if file.stat().st_size]
    assert left
    assert all(name.startswith("mlflow.db.making-") for name in left)
    monkeypatch.setattr(
        sqlite_file, "_make", lambda uri: shutil.copyfile(empty_database, sqlite_uri.file_of(uri, Path()))
    )
    with connect(TrackingSection(), tmp_path).run("train", "m") as run:
        run.log_metrics({"loss": 1.0}, step=0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mlflow.db"]


def test_a_half_made_store_is_set_aside_and_made_anew(
    tmp_path: Path, makings: list[str], empty_database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half_made(tmp_path / "mlflow.db", empty_database)
    connect(TrackingSection(), tmp_path)
    assert len(makings) == 1
    assert "its making was interrupted; it is now mlflow.db.half-made, and a new one is made" in caplog.text
    assert (tmp_path / "mlflow.db.half-made").exists()


def test_one_in_the_making_is_waited_for(tmp_path: Path, makings: list[str], empty_database: Path) -> None:
    file = tmp_path / "mlflow.db"
    half_made(file, empty_database)
    os.utime(file)  # an `mlflow server` makes it this moment
    later = threading.Timer(0.5, shutil.copyfile, (empty_database, file))
    later.start()
    connect(TrackingSection(), tmp_path)
    later.join()
    assert makings == []


def test_a_store_with_a_row_of_anybody_s_is_never_made_anew(
    root: Path, makings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_STILL_SECONDS", 0.0)
    file = root / "mlflow.db"
    before = file.stat().st_ino
    connect(TrackingSection(), root)
    run_sql(file, "DELETE FROM experiments", "CREATE TABLE mine (a)", "INSERT INTO mine VALUES (1)")
    sqlite_file.make_whole(sqlite_uri.uri_of(file), file)
    assert (file.stat().st_ino, makings) == (before, [])


def test_two_that_start_at_once_make_one_store(tmp_path: Path, makings: list[str]) -> None:
    found: list[str] = []
    both = [
        threading.Thread(target=lambda: found.append(connect(TrackingSection(), tmp_path).experiment_id))
        for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(makings) == 1
    assert len(set(found)) == 1
    assert len(found) == 2


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Somebody's open transaction."""
    with closing(sqlite3.connect(file, check_same_thread=False)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.rollback()


def test_a_locked_store_is_waited_for_with_a_message_then_refused_with_a_sentence(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_file, "_ONE_TRY", 0.05)
    monkeypatch.setattr(sqlite_file, "_SILENT", 0.1)
    monkeypatch.setattr(sqlite_file, "_PATIENCE", 0.5)
    with writing(root / "mlflow.db"), pytest.raises(UserError, match="database is locked: another process") as raised:
        connect(TrackingSection(), root)
    assert "End that process" in str(raised.value)
    assert caplog.text.count("another process writes to it; waiting for up to") == 1

    monkeypatch.setattr(sqlite_file, "_PATIENCE", 60)
    with writing(root / "mlflow.db"):
        waiter = threading.Timer(0.3, lambda: None)
        found: list[Tracker] = []
        opening = threading.Thread(target=lambda: found.append(connect(TrackingSection(), root)))
        opening.start()
        waiter.start()
        waiter.join()
        assert found == []
    opening.join()
    assert found


def test_what_a_locked_store_did_not_take_is_a_sentence(root: Path) -> None:
    from sqlalchemy.exc import OperationalError

    locked = OperationalError("INSERT", {}, sqlite3.OperationalError("database is locked"))
    with (
        pytest.raises(UserError, match="could not start the run: database is locked, another process keeps") as raised,
        store.explained(f"sqlite:///{root}/mlflow.db", "start the run"),
    ):
        raise locked
    assert "INSERT" not in str(raised.value)


def test_entries_wait_while_the_store_is_locked(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_file, "_ONE_TRY", 0.05)
    with tracker.run("train", "m") as run:
        pass
    folder = outbox.folder_of(tracker.root, tracker.public_uri, run.run_id)
    header = {"kind": "run", "server": tracker.public_uri, "run_id": run.run_id, "name": run.name}
    box = outbox.Outbox(tracker.client, tracker.uri, folder, run.run_id, run.name, tracker.public_uri)
    box._journal = Journal.open(folder, header)
    with writing(tracker.root / "mlflow.db"):
        assert not store.answers(tracker.uri)
        box.put({"kind": "tags", "values": {"a": "b"}})
        box.close()
    assert "1 entry of the run train/m kept in" in caplog.text
    connect(TrackingSection(), tracker.root)
    assert tracker.client.get_run(run.run_id).data.tags["a"] == "b"


def test_a_damaged_store_is_named_at_once(root: Path) -> None:
    file = root / "mlflow.db"
    file.write_bytes(file.read_bytes()[:50] + b"x" * 5000)
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"mlflow\.db: the MLflow database is damaged .* Put a copy of it in its place"):
        connect(TrackingSection(), root)
    assert time.monotonic() - begin < 30  # MLflow would try for minutes


def test_two_syncs_at_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    from labelstack.commands import sync

    folder = root / "mlpending"
    folder.mkdir()
    with store.locked(folder):
        caplog.set_level(logging.WARNING)
        sync._PATIENCE, before = 0.2, sync._PATIENCE
        try:
            with pytest.raises(UserError, match="another `labelstack sync` has been uploading"), sync._alone(folder):
                pass
        finally:
            sync._PATIENCE = before
    assert "uploads from here; waiting for it" in caplog.text
    with sync._alone(folder):
        folder.rmdir()  # as the last upload does
    with sync._alone(folder):
        assert not folder.exists()
