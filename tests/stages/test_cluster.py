"""Stages on a real Dask cluster: a worker killed with -9 in the middle, and the same bytes as without a cluster."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import Cluster
from tiny import TINY, Workspace, environment


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder, ("a",), environment() | {"OMP_NUM_THREADS": "1"}) as cluster:
        yield cluster


@pytest.fixture
def sent(copied: Workspace, cluster: Cluster) -> Workspace:
    """A copy of the finished workspace that works on the cluster."""
    copied.params(engine={"scheduler": cluster.address, "timeout_s": 60})
    return copied


def run_and_kill(workspace: Workspace, cluster: Cluster, *command: str) -> str:
    """Run a command on the cluster and kill its second worker in the middle of a task."""
    cluster.add("b", "--nanny")
    cluster.wait_for("a", "b")
    killer = threading.Thread(target=cluster.kill_when_busy, args=("b",))
    killer.start()
    try:
        output = workspace.run(*command).stdout
    finally:
        killer.join()
    assert "b" not in cluster.processes
    return output


def files(workspace: Workspace, *folders: str) -> dict[str, bytes]:
    """All files of some folders but those that name MLflow runs."""
    found = {
        path.relative_to(workspace.root).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted((workspace.root / folder).rglob("*"))
        if path.is_file() and path.name != "run.json"
    }
    assert found
    return found


def test_download(finished: Workspace, sent: Workspace, cluster: Cluster) -> None:
    places = ("data/images/train", "metrics/download")
    shutil.rmtree(sent.root / places[0])
    run_and_kill(sent, cluster, "labelstack", "stage", "download", "train")
    assert files(sent, *places) == files(finished, *places)


def test_predict(finished: Workspace, sent: Workspace, cluster: Cluster) -> None:
    places = ("data/network_predictions/wide", "models/networks/wide")
    shutil.rmtree(sent.root / places[0])
    run_and_kill(sent, cluster, "labelstack", "stage", "predict", "wide")
    assert files(sent, *places) == files(finished, *places)
    assert not (sent.root / "data/work/predict/wide-all").exists()


def test_stack(finished: Workspace, sent: Workspace, cluster: Cluster) -> None:
    places = ("data/stacked/xgboost", "models/stackers/xgboost", "metrics/stack")
    shutil.rmtree(sent.root / places[0])
    shutil.rmtree(sent.root / places[1])
    shutil.rmtree(sent.root / "data/work/stack")
    run_and_kill(sent, cluster, "labelstack", "stage", "stack", "xgboost")
    assert files(sent, *places) == files(finished, *places)


@pytest.mark.slow
def test_a_killed_prediction_goes_on_from_the_finished_shards(finished: Workspace, copied: Workspace) -> None:
    work = copied.root / "data/work/predict/wide-all"
    shutil.rmtree(copied.root / "data/network_predictions/wide")
    copied.kill_when(lambda: len([*work.glob("validation-*.npz")]) > 0, "labelstack", "stage", "predict", "wide")
    kept = {path: path.stat().st_mtime_ns for path in work.glob("validation-*.npz")}
    assert kept
    stop = threading.Event()
    seen: set[bool] = set()

    def watch() -> None:
        while not stop.wait(0.01):
            seen.update(path.stat().st_mtime_ns == moment for path, moment in kept.items() if path.exists())

    watcher = threading.Thread(target=watch)
    watcher.start()
    copied.run("labelstack", "stage", "predict", "wide")
    stop.set()
    watcher.join()
    assert seen == {True}
    assert files(copied, "data/network_predictions/wide") == files(finished, "data/network_predictions/wide")


@pytest.mark.slow
def test_a_whole_run_with_workers_killed(finished: Workspace, workspace: Workspace, cluster: Cluster) -> None:
    workspace.params(engine={"scheduler": cluster.address, "timeout_s": 60})
    for before, stage in (
        (["ingest"], "download@train"),
        (["train@wide-all", "download@test"], "predict@wide-all"),
        (["predict@deep-all"], "stack@cnn"),
    ):
        workspace.run("dvc", "repro", *before)
        run_and_kill(workspace, cluster, "dvc", "repro", stage)
    workspace.run("dvc", "repro")
    assert workspace.submission() == finished.submission()


def committed(workspace: Workspace, remote: Path) -> None:
    """Name a DVC remote and commit what says which data there is."""
    workspace.run("dvc", "remote", "add", "-d", "storage", str(remote))
    workspace.run("git", "add", "dvc.lock", ".dvc/config", "metrics")
    workspace.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "Data")


@pytest.mark.long
def test_networks_come_from_two_clones_through_the_remote_and_its_run_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    home = Workspace(
        tmp_path / "home",
        {
            "base_models": [0, 1, 2],
            "models": {"wide": TINY["models"]["wide"]},
            "stackers": {"mean": {"kind": "mean"}},
            "tracking": {"uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
        },
    )
    home.run("dvc", "repro", "split", "download")
    committed(home, tmp_path / "remote")
    home.run("dvc", "push")
    for fold in (1, 2):
        clone = tmp_path / f"clone-{fold}"
        subprocess.run(["git", "clone", "-q", str(home.root), str(clone)], check=True)
        node = Workspace.existing(clone)
        stages = [f"train@wide-{fold}", f"predict@wide-{fold}"]
        node.run("dvc", "pull", "settings", "ingest", "split", "download")
        node.run("dvc", "repro", "--single-item", *stages)
        node.run("dvc", "push", "--run-cache", *stages)
    home.run("dvc", "fetch", "--run-cache", "train", "predict")
    said = home.run("dvc", "repro", "--pull", "score@wide").stdout
    assert re.findall(r"Running stage '([^']+)'", said) == ["train@wide-0", "predict@wide-0", "score@wide"]
    for fold in (1, 2):
        model = f"models/networks/wide/{fold}/model.keras"
        assert (home.root / model).read_bytes() == (tmp_path / f"clone-{fold}" / model).read_bytes()
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        parents = database.execute("SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId'").fetchall()
    assert len(parents) == 3
