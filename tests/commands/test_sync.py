from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from labelstack.commands import sync
from labelstack.params.tracking import TrackingSection
from labelstack.tracking import outbox, store
from labelstack.tracking.journal import Journal
from labelstack.tracking.runs import connect
from tiny import PATIENCE, Workspace, environment
from tracking.servers import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def test_server_killed_while_a_stage_trains(server: Server, copied: Workspace) -> None:
    models: dict[str, Any] = yaml.safe_load((copied.root / "params.yaml").read_text())["models"]
    models["wide"] |= {"epochs": 12}
    copied.params(models=models, tracking={"uri": server.uri})
    before = connect(TrackingSection(uri=server.uri), copied.root)
    process = subprocess.Popen(
        ["labelstack", "stage", "train", "wide"], cwd=copied.root, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    run_id = ""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        runs = before.client.search_runs([before.experiment_id], "attributes.run_name = 'train/wide'")
        if runs and runs[0].data.metrics:
            run_id = runs[0].info.run_id
            break
        time.sleep(0.02)
    server.kill()
    out, err = process.communicate(timeout=PATIENCE)
    assert run_id
    assert process.returncode == 0, err
    epochs = len((copied.root / "models/networks/wide/all/history.csv").read_text().splitlines()) - 1
    assert epochs > 2
    assert out.splitlines()[-1].startswith(f"train: wide: {epochs} epochs")
    assert len(err.splitlines()) == 1, err
    assert f"of the run train/wide kept in {copied.root}/mlpending/" in err
    assert "labelstack sync" in err
    assert json.loads((copied.root / "models/networks/wide/all/run.json").read_text())["run_id"] == run_id

    away = copied.run("labelstack", "sync", ok=False)
    assert away.returncode == 2
    assert "no answer within" in away.stderr
    assert "earlier run; `labelstack sync`" in away.stderr
    assert "Traceback" not in away.stderr
    stacked = copied.root / "data/stacked/cnn/oof.npy"
    before_stage = stacked.stat().st_mtime_ns
    stage = copied.run("labelstack", "stage", "stack", "cnn", ok=False)
    assert stage.returncode == 2
    assert "no answer within" in stage.stderr
    assert "Kept in" in stage.stderr
    assert stacked.stat().st_mtime_ns == before_stage  # no work was begun

    server.start()
    said = copied.run("labelstack", "sync")
    assert said.stderr == ""
    assert "entries of 1 run → " + server.uri in said.stdout
    assert not (copied.root / "mlpending").exists()
    found = before.client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert {"epochs", "best_epoch", "train_seconds", "loss"} <= set(found.data.metrics)
    for key in found.data.metrics:
        steps = [m.step for m in before.client.get_metric_history(run_id, key)]
        assert sorted(set(steps)) == sorted(steps), key
    assert len(before.client.get_metric_history(run_id, "loss")) == epochs
    paths = {info.path for info in before.client.list_artifacts(run_id)}
    assert paths == {"plots", "history.csv"}
    (output,) = found.outputs.model_outputs
    model = before.client.get_logged_model(output.model_id)
    assert (model.name, model.source_run_id, str(model.status)) == ("wide", run_id, "READY")
    kept = before.client.list_logged_model_artifacts(model.model_id)
    assert {info.path for info in kept} == {"MLmodel", "model.keras"}
    assert {one.dataset.name for one in found.inputs.dataset_inputs} == {"sample train", "sample train (held out)"}
    assert "nothing pending for" in copied.run("labelstack", "sync").stdout


@pytest.fixture
def here(finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished workspace's small files and its store, as the current folder."""
    root = tmp_path / "here"
    shutil.copytree(finished.root, root)
    monkeypatch.chdir(root)
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", "/")
    return root


def commit(root: Path) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "results")
    return git(root, "rev-parse", "HEAD")


def test_the_commit_that_holds_the_results_is_recorded(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sync.run()
    assert "no commit recorded for labelstack v1: dvc.lock is not committed" in capsys.readouterr().out
    head = commit(here)
    sync.run()
    assert f"sync: results of labelstack v1 are in commit {head[:12]}" in capsys.readouterr().out
    tracker = connect(TrackingSection(), here)
    assert tracker.client.get_model_version("labelstack", "1").tags["git.results_commit"] == head

    # A commit that has the code without its results isn't one from which nothing is to be done.
    (here / "src/labelstack/stages/report.py").write_text("# changed\n")
    commit(here)
    sync.run()
    assert "`dvc status` names settings as changed" in capsys.readouterr().out
    params = yaml.safe_load((here / "params.yaml").read_text())
    (here / "params.yaml").write_text(yaml.safe_dump(params | {"seed": 99}))
    sync.run()
    assert "no commit recorded for labelstack v1: params.yaml changed since the last commit" in capsys.readouterr().out
    assert tracker.client.get_model_version("labelstack", "1").tags["git.results_commit"] == head


def test_another_registration_than_the_committed_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit(here)
    file = here / "models/ensemble/registration.json"
    content = json.loads(file.read_text())
    file.unlink()
    file.write_text(json.dumps(content | {"version": 7}))
    sync.run()
    assert "is not the one that the committed dvc.lock names" in capsys.readouterr().out


def test_a_version_that_this_registry_lacks(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(here)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///another.db")
    shutil.copy(here / "mlflow.db", here / "another.db")
    tracker = connect(TrackingSection(), here)
    tracker.client.delete_registered_model_alias("labelstack", "champion")
    tracker.client.delete_model_version("labelstack", "1")
    sync.run()
    assert "no commit recorded: labelstack v1 with digest" in capsys.readouterr().out


def test_entries_for_another_server_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    folder = outbox.folder_of(tmp_path, "http://other:5000", "0" * 32)
    Journal.open(folder, {"kind": "run", "server": "http://other:5000", "run_id": "0" * 32, "name": "x"}).close()
    from labelstack.support.errors import UserError

    with pytest.raises(UserError, match=r"kept for http://other:5000, but tracking\.uri is sqlite:///mlflow\.db"):
        sync.run()
    assert "nothing pending for sqlite:///mlflow.db" in capsys.readouterr().out


def test_refused_and_busy_journals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from labelstack.support.errors import UserError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    store.open_client(f"sqlite:///{tmp_path}/mlflow.db")
    for name in ("1", "2"):
        folder = outbox.folder_of(tmp_path, "sqlite:///mlflow.db", name * 32)
        header = {"kind": "run", "server": "sqlite:///mlflow.db", "run_id": name * 32, "name": "x"}
        journal = Journal.open(folder, header)
        journal.append({"kind": "tags", "values": {"a": "b"}})
        if name == "1":
            journal.close()
    with pytest.raises(UserError, match=r"11111111.*restore it, or delete"):
        sync.run()
    said = capsys.readouterr().out
    assert f"another process writes or uploads the run {'2' * 32}" in said
    assert "sync: 0 entries of 0 runs" in said
    journal.close()
    assert os.listdir(tmp_path / "mlpending")
