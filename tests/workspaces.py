"""Fixtures: workspaces in which the whole pipeline has run, or nothing yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared import made_once, run_folder
from tiny import Workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace after one uninterrupted `dvc repro`, shared by all workers; tests only read it, or a copy."""
    root = made_once(
        run_folder(tmp_path_factory) / "finished", lambda folder: Workspace(folder).run("dvc", "repro", measured=True)
    )
    return Workspace.existing(root)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A fresh workspace in which nothing has run."""
    return Workspace(tmp_path / "work")


@pytest.fixture
def copied(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished workspace, to change at will."""
    return finished.copy(tmp_path / "copied")
