"""`labelstack ui` hands MLflow's server the store that every other command uses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from labelstack.commands import ui
from labelstack.support.errors import UserError
from labelstack.tracking.store import resolve_uri
from tiny import REPOSITORY


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "a%20b?c"
    folder.mkdir()
    shutil.copy(REPOSITORY / "params.yaml", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "")  # it is set for the server: this undoes it
    return folder


def started(monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """The store and the arguments with which the process becomes the server."""
    commands: list[Sequence[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: commands.append(command))
    ui.run("127.0.0.1", 5000)
    return os.environ["MLFLOW_BACKEND_STORE_URI"], list(commands[0])


@pytest.mark.parametrize(
    ("given", "store"),
    [
        ("", "sqlite:///mlflow.db"),
        (" sqlite:///other.db ", "sqlite:///other.db"),
        ("postgresql://u:hunter2@host/db", "postgresql+psycopg2://u:hunter2@host/db"),
    ],
)
def test_the_store_is_the_one_that_others_use(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, store: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    found, command = started(monkeypatch)
    assert found == (resolve_uri(store, here) if "sqlite" in store else store)
    assert command[command.index("--default-artifact-root") + 1] == (here / "mlartifacts").as_uri()
    assert "hunter2" not in capsys.readouterr().out + " ".join(command)


def test_relative_artifacts_lie_in_the_project(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = yaml.safe_load((here / "params.yaml").read_text())
    params["tracking"]["artifacts"] = "other/place"
    (here / "params.yaml").write_text(yaml.safe_dump(params))
    command = started(monkeypatch)[1]
    assert command[command.index("--default-artifact-root") + 1] == (here / "other/place").as_uri()


def test_a_server_needs_no_other(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " https://ann:hunter2@team.example/ ")
    with pytest.raises(UserError, match=r"https://team\.example is a server already: open it in the browser"):
        started(monkeypatch)
