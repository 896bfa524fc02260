from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from labelstack.params.tracking import TrackingSection
from labelstack.tracking.runs import connect, runs_of_experiment
from stores import wait_for
from tiny import Workspace


@pytest.fixture
def committed(copied: Workspace) -> Workspace:
    """A finished workspace whose results are committed, as experiments want it."""
    for command in (["git", "add", "-A"], ["git", "-c", "user.name=t", "-c", "user.email=t@e", "commit", "-qm", "run"]):
        subprocess.run(command, cwd=copied.root, check=True)
    for key, value in (("user.name", "t"), ("user.email", "t@example.org")):
        subprocess.run(["git", "config", key, value], cwd=copied.root, check=True)
    return copied


def head(root: Path) -> str:
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_experiments_here_and_queued_log_to_the_same_store(committed: Workspace) -> None:
    root = committed.root
    before = connect(TrackingSection(), root)
    n = len(before.client.search_runs([before.experiment_id]))
    trained = json.loads((root / "models/base/wide/run.json").read_text())["run_id"]
    metrics = before.client.get_run(trained).data.metrics
    baseline = head(root)

    # In a copy of the workspace, by a worker in the background.
    queued = committed.run("dvc", "exp", "run", "--queue", "-n", "queued", "-S", "blend.step=0.5", "blend")
    assert "queued" in queued.stdout
    committed.run("dvc", "queue", "start")
    wait_for(lambda: "Success" in committed.run("dvc", "queue", "status").stdout, 300)

    # In the workspace itself, with a stage that adds to a run of the baseline.
    committed.run("dvc", "exp", "run", "-n", "here", "-S", "thresholds.strategy=global", "score@wide")

    tracker = connect(TrackingSection(), root)
    for name in ("queued", "here"):
        runs = runs_of_experiment(tracker, name)
        assert {run.data.tags["labelstack.experiment_baseline"] for run in runs} == {baseline}
        assert {run.info.status for run in runs} == {"FINISHED"}
    (blended,) = runs_of_experiment(tracker, "queued")
    assert blended.info.run_name == "blend/ensemble"
    assert blended.data.params["blend.step"] == "0.5"
    assert {info.path for info in tracker.client.list_artifacts(blended.info.run_id)} >= {"model", "plots"}
    assert not list((root / ".dvc/tmp/exps").rglob("mlflow.db"))
    assert not list((root / ".dvc/tmp/exps").rglob("mlartifacts"))

    here = {run.info.run_name: run for run in runs_of_experiment(tracker, "here")}
    assert here["train/wide"].info.run_id != trained  # the baseline's run keeps its own figures
    assert here["train/wide"].data.tags["labelstack.continues"] == trained
    assert here["train/wide"].data.params == tracker.client.get_run(trained).data.params
    assert tracker.client.get_run(trained).data.metrics == metrics
    assert "labelstack.experiment" not in tracker.client.get_run(trained).data.tags
    everything = tracker.client.search_runs([tracker.experiment_id])
    of_experiments = [run for run in everything if "labelstack.experiment" in run.data.tags]
    assert len(everything) == n + len(of_experiments) == n + 2

    assert runs_of_experiment(tracker, "it's none") == []
