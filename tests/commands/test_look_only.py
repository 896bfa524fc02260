"""Commands that only look: where there is no store yet they say so, and make nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from labelstack.commands import predict_images, promote, rebuild, sync
from labelstack.commands.compare import compare
from labelstack.support.errors import UserError
from tiny import REPOSITORY

COMMANDS: dict[str, Callable[[], None]] = {
    "predict": lambda: predict_images.run(["x.jpg"]),
    "promote": lambda: promote.run(None),
    "promote 1": lambda: promote.run("1", reason="x"),
    "promote --back": lambda: promote.run(None, reason="x", back=True),
    "rebuild": lambda: rebuild.run("1", Path("again")),
    "compare": lambda: compare.run([], html=None, row="blend", labels=5),
    "compare a version": lambda: compare.run(["1", "2"], html=Path("page.html"), row="blend", labels=5),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", "/")
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_there_is_no_store_yet(here: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"sqlite:///mlflow\.db: there is no MLflow store here yet; `dvc repro` makes"):
        COMMANDS[name]()
    assert [file.name for file in here.rglob("*")] == ["params.yaml"]


def test_a_file_without_anything_is_no_store(here: Path) -> None:
    (here / "mlflow.db").touch()
    with pytest.raises(UserError, match="no MLflow store here yet"):
        COMMANDS["promote"]()
    assert (here / "mlflow.db").stat().st_size == 0


def test_there_is_nothing_to_sync(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sync.run()
    assert capsys.readouterr().out == "sync: nothing pending for sqlite:///mlflow.db\n"
    assert [file.name for file in here.rglob("*")] == ["params.yaml"]
