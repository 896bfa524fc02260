from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from pipeline.tiny import Workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace after one uninterrupted `dvc repro`, shared by all workers; tests only read it, or a copy."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root, mark = shared / "finished" / "work", shared / "finished.done"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists():
            return Workspace.existing(root)
        workspace = Workspace(root)
        workspace.run("dvc", "repro")
        mark.touch()
        return workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A fresh workspace in which nothing has run."""
    return Workspace(tmp_path / "work")


@pytest.fixture
def copied(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished workspace, to change at will."""
    return finished.copy(tmp_path / "copied")
