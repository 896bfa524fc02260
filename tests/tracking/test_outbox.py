from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labelstack.params.tracking import TrackingSection
from labelstack.support.errors import UserError
from labelstack.tracking import outbox, store
from labelstack.tracking.journal import Busy, Journal
from labelstack.tracking.runs import Tracker, connect
from tracking.servers import Server, proxy

HEADER = {"kind": "run", "server": "http://h", "run_id": "r", "name": "train/m"}


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mortal")
    shutil.copyfile(empty_database, folder / "s.db")
    server = Server(folder)
    server.start()
    yield server
    server.kill()


def history(tracker: Tracker, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in tracker.client.get_metric_history(run_id, key)]


def files(tracker: Tracker, run_id: str, folder: str | None = None) -> set[str]:
    found = set()
    for info in tracker.client.list_artifacts(run_id, folder):
        found |= files(tracker, run_id, info.path) if info.is_dir else {info.path}
    return found


def text(tracker: Tracker, run_id: str, path: str, to: Path) -> str:
    to.mkdir(exist_ok=True)
    return Path(tracker.client.download_artifacts(run_id, path, str(to))).read_text()


def kept(run: Any) -> bool:
    """Whether the run's entries wait on disk."""
    return any(folder.name == run.run_id for folder in outbox.pending(run.tracker.root))


def metrics(*values: Any) -> dict[str, Any]:
    return {"kind": "metrics", "values": [list(value) for value in values]}


def counted_tries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which ways to the store were tried; a store that was away is not asked again by itself."""
    tries: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def trying(*given: Any) -> Any:
            tries.append(name)
            return call(*given)

        return trying

    monkeypatch.setattr(outbox, "_AGAIN_SECONDS", math.inf)
    monkeypatch.setattr(outbox, "apply", counted("apply", outbox.apply))
    monkeypatch.setattr(store, "answers", counted("answers", store.answers))
    return tries


def test_server_killed_in_the_middle_of_a_run(
    mortal: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = TrackingSection(uri=mortal.uri)
    tracker = connect(tracking, tmp_path)
    tries = counted_tries(monkeypatch)
    work = tmp_path / "model"
    (work / "deep").mkdir(parents=True)
    with tracker.run("train", "m", params={"a": 1}, tags={"dvc.x": "ab"}) as run:
        for epoch in range(5):
            run.log_metrics({"loss": 5.0 - epoch, "f1": epoch / 10}, step=epoch)
        mortal.kill()
        tries.clear()
        run.log_metrics({"loss": 0.0, "f1": 0.5}, step=5)
        assert tries == ["apply"]  # the first failure
        for epoch in range(6, 10):
            run.log_metrics({"loss": 5.0 - epoch, "f1": math.nan if epoch == 7 else epoch / 10}, step=epoch)
        logged_at = time.time() * 1000
        (work / "deep" / "weights").write_text("first")
        (work / "deep" / "same").write_text("kept")
        run.log_artifacts(work, "model")
        run.log_artifact(work / "deep" / "weights", "")
        (work / "deep" / "weights").write_text("later")  # what was logged is what it was
        run.log_bytes(b"png", "plots/a.png")
        run.set_tags({"later": "1"})
        run.log_metrics({"samples_f1": 0.5})
        run.log_metrics({"samples_f1": 0.75})
        assert tries == ["apply"]  # nothing waits for the server any more
        assert run.metrics["samples_f1"] == 0.75
    assert f"entries of the run train/m kept in {tmp_path}/mlpending/" in caplog.text
    assert "labelstack sync" in caplog.text
    assert caplog.text.count("\n") == 1
    (folder,) = outbox.pending(tmp_path)
    assert folder.name == run.run_id
    assert Journal.peek(folder)[1] == 12
    ended = time.time() * 1000

    monkeypatch.setattr(store, "_REACH_SECONDS", 2)
    with pytest.raises(UserError, match=r"no answer within .* Kept in .*: 12 entries of 1 earlier run; `labelstack"):
        connect(tracking, tmp_path)
    mortal.start()
    caplog.clear()
    again = connect(tracking, tmp_path)  # the next run uploads
    assert not (tmp_path / "mlpending").exists()
    assert not caplog.text
    assert history(again, run.run_id, "loss") == [(epoch, 5.0 - epoch) for epoch in range(10)]
    f1 = dict(history(again, run.run_id, "f1"))
    assert math.isnan(f1.pop(7))
    assert f1 == {epoch: epoch / 10 for epoch in (0, 1, 2, 3, 4, 5, 6, 8, 9)}
    found = again.client.get_run(run.run_id)
    assert found.data.metrics["samples_f1"] == 0.75
    assert found.data.tags["later"] == "1"
    assert found.info.status == "FINISHED"
    assert ended - 60_000 < found.info.end_time <= ended  # not the time of the upload
    assert all(m.timestamp <= logged_at + 100 for m in again.client.get_metric_history(run.run_id, "loss"))
    assert files(again, run.run_id) == {"model/deep/weights", "model/deep/same", "weights", "plots/a.png"}
    assert text(again, run.run_id, "weights", tmp_path / "a") == "first"
    assert text(again, run.run_id, "model/deep/weights", tmp_path / "b") == "first"


def test_a_server_that_comes_back_during_the_run(
    mortal: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = []
    with proxy(mortal.port, lambda *_: bool(away), status=503) as uri:
        tracker = connect(TrackingSection(uri=uri), tmp_path)
        with tracker.run("train", "back") as run:
            run.log_metrics({"loss": 3.0}, step=0)
            away.append(1)
            run.log_metrics({"loss": 2.0}, step=1)
            assert kept(run)
            away.clear()
            run.log_metrics({"loss": 1.0}, step=2)
            assert kept(run)  # not at every entry
            monkeypatch.setattr(run.outbox, "_next", 0.0)
            run.log_metrics({"loss": 0.5}, step=3)
            assert not kept(run)
            assert [step for step, _ in history(tracker, run.run_id, "loss")] == [0, 1, 2, 3]
            run.log_metrics({"loss": 0.25}, step=4)
            away.append(1)
            run.log_metrics({"loss": 0.2}, step=5)
            away.clear()
        assert [step for step, _ in history(tracker, run.run_id, "loss")] == [0, 1, 2, 3, 4, 5]
    assert not (tmp_path / "mlpending").exists()
    assert not caplog.text


def test_lost_answers_double_nothing(mortal: Server, tmp_path: Path) -> None:
    lost: list[str] = []

    def lose(method: str, path: str) -> bool:
        """Of three answers to batches, endings and artifacts two are lost; the requests themselves arrive."""
        if path.endswith(("log-batch", "runs/update")) or method == "PUT":
            lost.append(path)
            return len(lost) % 3 != 0
        return False

    (tmp_path / "a.txt").write_text("a")
    with proxy(mortal.port, lose) as uri:
        tracker = connect(TrackingSection(uri=uri), tmp_path)
        with tracker.run("train", "lossy", params={"a": 1}) as run:
            for epoch in range(4):
                run.log_metrics({"loss": float(epoch)}, step=epoch)
            run.log_metrics({"final": 0.5})
            run.log_artifact(tmp_path / "a.txt", "")
            run.log_metrics({"final": 0.25})
        for _ in range(30):
            if not outbox.pending(tmp_path):
                break
            connect(TrackingSection(uri=uri), tmp_path)  # gets some entries further each time
    direct = connect(TrackingSection(uri=mortal.uri), tmp_path)
    assert len(lost) >= 10
    assert not (tmp_path / "mlpending").exists()
    assert history(direct, run.run_id, "loss") == [(epoch, float(epoch)) for epoch in range(4)]
    assert sorted(value for _, value in history(direct, run.run_id, "final")) == [0.25, 0.5]
    found = direct.client.get_run(run.run_id)
    assert found.data.metrics["final"] == 0.25
    assert found.info.status == "FINISHED"
    assert files(direct, run.run_id) == {"a.txt"}


@pytest.fixture
def left(tracker: Tracker, tmp_path: Path) -> Path:
    """A journal for a run of the sqlite store, with every kind of entry."""
    with tracker.run("train", "m") as run:
        run.log_metrics({"loss": 3.0}, step=0)
    at = int(time.time() * 1000) + 10
    folder = outbox.folder_of(tracker.root, tracker.public_uri, run.run_id)
    journal = Journal.open(folder, HEADER | {"server": tracker.public_uri})
    journal.append({"kind": "params", "values": {"p": "1"}})
    for step in range(4):
        journal.append(metrics(("loss", 3.0 - step, at + step, step, False), ("nan", math.nan, at, step, False)))
    journal.append(metrics(("loss", 0.125, at + 9, None, True), ("only", 1.5, at, None, True)))
    journal.append(metrics(("loss", 0.0625, at + 10, 7, False), ("only", math.inf, at + 1, 0, True)))
    (tmp_path / "a.txt").write_text("a")
    journal.append({"kind": "artifact", "folder": "in"}, tmp_path / "a.txt")
    journal.append({"kind": "tags", "values": {"t": "1"}})
    journal.append({"kind": "status", "status": "FINISHED", "end_time": at + 20})
    journal.close()
    return folder


def check(tracker: Tracker, run_id: str) -> None:
    steps = [(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0), (3, 0.125), (7, 0.0625)]
    assert sorted(history(tracker, run_id, "loss")) == steps
    assert len(history(tracker, run_id, "nan")) == 4
    assert [step for step, _ in history(tracker, run_id, "only")] == [0, 0]
    found = tracker.client.get_run(run_id)
    assert found.data.params == {"p": "1"}
    assert found.data.tags["t"] == "1"
    assert found.info.status == "FINISHED"
    assert files(tracker, run_id) == {"in/a.txt"}


def test_a_journal_replayed_twice(tracker: Tracker, left: Path, tmp_path: Path) -> None:
    shutil.copytree(left, tmp_path / "copy")
    assert outbox.upload_folder(tracker.client, tracker.uri, left) == 10
    assert not left.exists()
    check(tracker, left.name)
    shutil.copytree(tmp_path / "copy", left)
    assert outbox.upload_folder(tracker.client, tracker.uri, left) == 10
    check(tracker, left.name)


def test_an_upload_killed_anywhere_goes_on(tracker: Tracker, left: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from labelstack.tracking import outbox, store\n"
        "client, count = store.open_client(sys.argv[1]), 0\n"
        "apply = outbox.apply\n"
        "def killed(*arguments):\n"
        "    global count\n"
        "    apply(*arguments)\n"  # it is in the store, but the journal doesn't know yet
        "    count += 1\n"
        "    if count == int(sys.argv[3]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "outbox.apply = killed\n"
        "outbox.upload_folder(client, sys.argv[1], Path(sys.argv[2]))\n"
    )
    for after in (1, 2, 3):
        command = [sys.executable, "-c", code, tracker.uri, str(left), str(after)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert left.exists()
    assert Journal.peek(left)[1] < 10
    assert outbox.upload_folder(tracker.client, tracker.uri, left) is not None
    check(tracker, left.name)


def test_two_uploads_at_once(tracker: Tracker, left: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from labelstack.tracking import outbox, store\n"
        "client = store.open_client(sys.argv[1])\n"
        "print(outbox.upload_folder(client, sys.argv[1], Path(sys.argv[2])))\n"
    )
    command = [sys.executable, "-c", code, tracker.uri, str(left)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "10" in said
    assert set(said) <= {"10", "None", "0"}
    check(tracker, left.name)


def test_a_journal_that_another_process_holds_is_left_to_it(tracker: Tracker, left: Path) -> None:
    journal = Journal.open(left, None)
    assert outbox.upload_folder(tracker.client, tracker.uri, left) is None
    connect(TrackingSection(), tracker.root)
    assert left.exists()
    with pytest.raises(Busy, match="another process is writing or uploading"):
        Journal.open(left, HEADER, patience=0.2)
    journal.close()
    connect(TrackingSection(), tracker.root)
    check(tracker, left.name)


def test_a_resumed_run_sees_what_was_kept(tracker: Tracker, left: Path) -> None:
    again = connect(TrackingSection(), tracker.root)
    with again.run("train", "m", params={"p": 1}, run_id=left.name) as run:
        run.log_metrics({"loss": 2.0}, step=1)
    check(again, left.name)


def test_a_resumed_run_goes_on_with_its_journal_in_order(tracker: Tracker, left: Path) -> None:
    with tracker.run("train", "m", params={"p": "1"}, run_id=left.name) as run:  # no connect between
        assert not left.exists()
        run.set_tags({"t": "2"})
    assert tracker.client.get_run(left.name).data.tags["t"] == "2"
    assert history(tracker, left.name, "loss")[-1] == (7, 0.0625)


@pytest.mark.parametrize("torn", ['{"kind": "tags", "values": {"t": "3"', '{"kind": "ta\n', "\x00\x00\n"])
def test_a_torn_last_line_is_dropped(tracker: Tracker, left: Path, torn: str) -> None:
    with (left / "journal.jsonl").open("a") as file:
        file.write(torn)
    journal = Journal.open(left, HEADER)
    assert journal.count == 10
    journal.append({"kind": "tags", "values": {"more": "1"}})
    journal.close()
    assert [json.loads(line)["kind"] for line in (left / "journal.jsonl").read_text().splitlines()[-2:]] == [
        "status",
        "tags",
    ]
    assert outbox.upload_folder(tracker.client, tracker.uri, left) == 11
    check(tracker, left.name)


def test_a_journal_in_which_nothing_is_goes_away(tracker: Tracker) -> None:
    folder = outbox.folder_of(tracker.root, tracker.public_uri, "0" * 32)
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").touch()
    connect(TrackingSection(), tracker.root)
    assert not (tracker.root / "mlpending").exists()


def test_entries_of_a_deleted_run_are_refused_and_kept(
    tracker: Tracker, left: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker.client.delete_run(left.name)
    with pytest.raises(UserError, match=rf"upload {left}.*Where the run was deleted, restore it, or delete"):
        outbox.upload_folder(tracker.client, tracker.uri, left)
    again = connect(TrackingSection(), tracker.root)
    assert "restore it, or delete" in caplog.text
    tracker.client.restore_run(left.name)
    connect(TrackingSection(), tracker.root)
    check(again, left.name)


def test_client_errors_stay_errors(tracker: Tracker, tmp_path: Path) -> None:
    with tracker.run("train", "m", params={"a": 1}) as run:
        with pytest.raises(UserError, match="could not log params"):
            run.log_params({"a": "2"})
        tracker.client.delete_run(run.run_id)
        with pytest.raises(UserError, match="could not set tags"):
            run.set_tags({"a": "b"})
        tracker.client.restore_run(run.run_id)
    assert not (tracker.root / "mlpending").exists()


def test_a_locked_database_is_waited_for(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    from mlflow.exceptions import MlflowException

    with tracker.run("train", "m") as run:
        real = tracker.client.log_batch

        def locked(*_: object, **__: object) -> None:
            try:
                from sqlalchemy.exc import OperationalError

                raise OperationalError("insert", {}, sqlite3.OperationalError("database is locked"))
            except OperationalError as error:
                raise MlflowException(str(error)) from error

        monkeypatch.setattr(tracker.client, "log_batch", locked)
        run.log_metrics({"loss": 1.0}, step=0)
        assert kept(run)
        monkeypatch.setattr(tracker.client, "log_batch", real)
    assert history(tracker, run.run_id, "loss") == [(0, 1.0)]


def test_a_resumed_run_whose_history_cannot_be_read(mortal: Server, tmp_path: Path) -> None:
    direct = connect(TrackingSection(uri=mortal.uri), tmp_path)
    with direct.run("train", "blind", params={"a": 1}) as first:
        first.log_history([{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0}])
        first.log_metrics({"f1": 0.5})
    away: list[int] = []
    with proxy(mortal.port, lambda *_: bool(away), status=500) as uri:
        tracker = connect(TrackingSection(uri=uri), tmp_path)
        with tracker.run("train", "blind", params={"a": 1}, run_id=first.run_id) as run:
            away.append(1)
            run.log_history([{"epoch": e, "loss": 2.0 - e} for e in range(3)])
            run.log_metrics({"f1": 0.25, "loss": 0.125})
            away.clear()
    assert history(direct, first.run_id, "loss") == [(0, 2.0), (1, 1.0), (2, 0.0), (2, 0.125)]
    assert direct.client.get_run(first.run_id).data.metrics == {"loss": 0.125, "f1": 0.25}


def test_a_disk_that_takes_nothing_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "mlpending").write_text("a file in the way")
    with pytest.raises(UserError, match="what is to be logged can't be kept there"):
        Journal.open(tmp_path / "mlpending" / "x" / "y", HEADER)


def test_journals_survive_a_writer_that_is_killed(tracker: Tracker, tmp_path: Path) -> None:
    with tracker.run("train", "m") as run:
        pass
    folder = outbox.folder_of(tracker.root, tracker.public_uri, run.run_id)
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from labelstack.tracking.journal import Journal\n"
        f"journal = Journal.open(Path(sys.argv[1]), {HEADER!r})\n"
        "for i in range(20): journal.append({'kind': 'metrics', 'values': [['loss', 1.0, 1000 + i, i, False]]})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert outbox.upload_folder(tracker.client, tracker.uri, folder) == 20
    assert [step for step, _ in history(tracker, run.run_id, "loss")] == list(range(20))


def test_what_counts_as_away() -> None:
    import requests
    from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
    from mlflow.exceptions import MlflowException, RestException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
    from sqlalchemy.exc import IntegrityError, OperationalError

    server, database = "http://h:1", "postgresql://h/x"
    answer = requests.Response()
    for code, away in ((500, True), (502, True), (429, True), (408, True), (404, False), (403, False)):
        answer.status_code = code
        assert store.unreachable(requests.HTTPError(response=answer), server) is away
        body = {"ResponseMetadata": {"HTTPStatusCode": code}, "Error": {"Code": "X"}}
        assert store.unreachable(ClientError(body, "PutObject"), database) is away
    assert store.unreachable(requests.ConnectionError(), server)
    assert store.unreachable(requests.Timeout(), server)
    assert not store.unreachable(requests.exceptions.InvalidURL(), server)
    assert store.unreachable(EndpointConnectionError(endpoint_url="x"), database)
    assert not store.unreachable(NoCredentialsError(), database)
    assert store.unreachable(MlflowException("x", TEMPORARILY_UNAVAILABLE), database)
    assert not store.unreachable(MlflowException("x", INVALID_PARAMETER_VALUE), server)
    assert store.unreachable(RestException({"error_code": "INTERNAL_ERROR", "message": "x"}), server)
    assert not store.unreachable(MlflowException("a bug"), database)
    for inner, away in ((OperationalError("", {}, Exception()), True), (IntegrityError("", {}, Exception()), False)):
        outer = MlflowException("x")
        outer.__cause__ = inner
        assert store.unreachable(outer, database) is away
    assert not store.unreachable(ValueError(), server)


def test_patience_ends_with_the_context(monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> None:
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)
    store.open_client(f"sqlite:///{empty_database}")
    with store.hurried(7):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "99")
    with store.hurried(7):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "99"  # the user's own


def test_the_first_stall_is_bounded_when_packets_vanish(
    mortal: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that takes requests and never answers; the waits are shortened here, two at most for each entry."""
    monkeypatch.setattr(outbox, "_PATIENCE", 1)
    monkeypatch.setattr(store, "_REACH_SECONDS", 1)
    away, held = list[int](), list[str]()

    def hang(method: str, path: str) -> bool:
        if away:
            held.append(f"{method} {path}")
        while away:
            time.sleep(0.05)
        return False

    with proxy(mortal.port, hang) as uri, caplog.at_level(logging.WARNING):
        tracker = connect(TrackingSection(uri=uri), tmp_path)
        with tracker.run("train", "slow") as run:
            away.append(1)
            run.log_metrics({"loss": 1.0}, step=0)
            assert 1 <= len(held) <= 2, held
        away.clear()
    direct = connect(TrackingSection(uri=mortal.uri), tmp_path)
    (folder,) = outbox.pending(tmp_path)
    assert outbox.upload_folder(direct.client, mortal.uri, folder) == 2
    assert history(direct, run.run_id, "loss") == [(0, 1.0)]
