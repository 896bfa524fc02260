from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.tiny import Workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace after one uninterrupted `dvc repro`; tests leave it as they found it."""
    workspace = Workspace(tmp_path_factory.mktemp("finished") / "work")
    workspace.run("dvc", "repro")
    return workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A fresh workspace in which nothing has run."""
    return Workspace(tmp_path / "work")
