"""A workspace with the real dvc.yaml and a params.yaml that runs in about a minute."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import warm

REPOSITORY = Path(__file__).resolve().parents[1]
MEASURING: dict[str, str] = {}  # variables by which coverage measures a process; conftest.py takes them out of ours
PATIENCE = 1500  # seconds: far beyond what any command takes on a machine ten times slower

TINY: dict[str, Any] = {
    "sample": {"n_train": 120, "n_validation": 60, "n_test": 40, "image_size": 48, "label_noise": 0.03},
    "images": {"store_size": 48, "shard_rows": 20, "concurrency": 4},
    "training": {"workers": 1},
    "models": {
        "wide": {
            "backbone": "small_cnn",
            "image_size": 24,
            "options": {"filters": [8, 16]},
            "head": {"units": [16], "dropout": 0.2},
            "epochs": 5,
            "batch_size": 32,
        },
        "deep": {
            "backbone": "small_resnet",
            "image_size": 24,
            "options": {"filters": [8, 16]},
            "head": {"pooling": "average", "units": [], "dropout": 0.2},
            "epochs": 2,
            "batch_size": 32,
        },
    },
    "folds": {"k": 3},  # so that nesting is in every run
    "stackers": {
        "cnn": {"kind": "cnn", "padding": "same", "units": 16, "epochs": 2},
        "xgboost": {"kind": "xgboost", "features": "all", "n_estimators": 4, "max_depth": 2},
    },
    "blend": {"members": [], "step": 0.25},
}


_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the keys of ``change`` put in, section by section; models and stackers are replaced whole."""
    result = dict(base)
    for key, value in change.items():
        if key in ("models", "stackers") or not isinstance(value, dict):
            result[key] = value
        else:
            result[key] = merged(result.get(key) or {}, value)
    return result


def environment(*, measured: bool = False, quick: bool = False) -> dict[str, str]:
    """The environment of a shell in which the virtual environment is active; ``quick``: `labelstack` is warm.py's.

    Coverage costs a process half as much again, most of it while it imports MLflow and TensorFlow, which warm.py's have
    done; only those processes are ``measured`` that run what no other test does.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))}
    places = [str(Path(sys.executable).parent), os.environ["PATH"]]
    if quick and (folder := warm.folder()):
        places.insert(0, folder)
    path = os.pathsep.join(places)
    own = {"PATH": path, "GIT_CEILING_DIRECTORIES": "/", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return inherited | own | (MEASURING if measured else {})


def typed(*lines: str, all_fail: bool = False) -> tuple[str, ...]:
    """A command that does what these lines after `labelstack` do, one after another, in one process.

    What a command costs is mostly the import of MLflow and TensorFlow. That stages run as processes of their own is
    seen wherever `dvc repro` runs.
    """
    return (*warm.lines(), "fail" if all_fail else "end", *lines)


class Workspace:
    """A folder like a user's clone, and commands typed in it."""

    def __init__(self, root: Path, change: dict[str, Any] | None = None) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(REPOSITORY / name, root / name)
        (root / ".dvc").mkdir(exist_ok=True)
        for name in ("config", ".gitignore"):
            shutil.copy(REPOSITORY / ".dvc" / name, root / ".dvc" / name)
        for name in ("requirements.lock",):
            shutil.copy(REPOSITORY / name, root / name)
        shutil.copytree(REPOSITORY / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        self.params(merged(yaml.safe_load((REPOSITORY / "params.yaml").read_text()), merged(TINY, change or {})))
        for command in (
            ["git", "init", "-q"],
            ["git", "add", "-A"],
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start"],
        ):
            subprocess.run(command, cwd=root, check=True)

    @classmethod
    def existing(cls, root: Path) -> Workspace:
        """A workspace that is there already."""
        workspace = cls.__new__(cls)
        workspace.root = root
        return workspace

    def copy(self, root: Path) -> Workspace:
        """The same workspace in another folder, with an MLflow store of its own: MLflow keeps absolute paths."""
        shutil.copytree(self.root, root)
        with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as database, database:
            for table, column in _PATHS:
                database.execute(
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                    (self.root.as_uri() + "/", root.as_uri() + "/"),
                )
        return Workspace.existing(root)

    def params(self, content: dict[str, Any] | None = None, **change: Any) -> dict[str, Any]:
        """Write params.yaml: the whole ``content``, or sections changed in what stands there."""
        file = self.root / "params.yaml"
        if content is None:
            content = merged(yaml.safe_load(file.read_text()), change)
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return content

    def run(
        self, *command: str, ok: bool = True, timeout: float = PATIENCE, measured: bool = False, quick: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here; with ``ok``, its failure fails the test and shows what it printed."""
        shell = environment(measured=measured, quick=quick)
        result = subprocess.run(command, cwd=self.root, env=shell, capture_output=True, text=True, timeout=timeout)
        if ok and result.returncode != 0:
            raise AssertionError(f"{' '.join(command)} → {result.returncode}\n{result.stdout}\n{result.stderr}")
        return result

    def repro(self, *targets: str) -> set[str]:
        """Run `dvc repro`; the stages that ran."""
        return set(re.findall(r"Running stage '([^']+)'", self.run("dvc", "repro", *targets).stdout))

    def changed(self) -> set[str]:
        """Stages that `dvc status` calls changed, but for `settings`, which every change of params or code reruns."""
        return set(json.loads(self.run("dvc", "status", "--json").stdout)) - {"settings"}

    def kill_when(self, condition: Callable[[], bool], *command: str, timeout: float = PATIENCE) -> None:
        """Start a command and kill -9 it with all its children as soon as the condition holds."""
        process = subprocess.Popen(
            command, cwd=self.root, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + timeout
        try:
            while not condition():
                assert process.poll() is None, f"{command} ended before it could be killed"
                assert time.monotonic() < deadline, f"{command}: the moment to kill it never came"
                time.sleep(0.01)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def submission(self) -> bytes:
        """The submission's bytes."""
        (file,) = (self.root / "submission").glob("*.csv")
        return file.read_bytes()
