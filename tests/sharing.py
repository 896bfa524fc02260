"""What the tests of push and pull, and their benchmark, have in common."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import yaml

from tiny import PATIENCE, environment

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")


def outputs(root: Path) -> dict[str, str]:
    """SHA-256 of every file that dvc.lock names as an output or that lies in a folder it names."""
    found = {}
    for stage in yaml.safe_load((root / "dvc.lock").read_text())["stages"].values():
        for out in stage.get("outs", []):
            place = root / out["path"]
            files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
            assert files, f"{place}: nothing there"
            for file in files:
                with file.open("rb") as stream:
                    found[file.relative_to(root).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def cached(root: Path) -> set[str]:
    """Names of all objects in the local DVC cache, as they are named in a remote."""
    cache = root / ".dvc/cache"
    return {file.relative_to(cache).as_posix() for file in (cache / "files").rglob("*") if file.is_file()}


def run(folder: Path, *command: str, ok: bool = True, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Run a command as in a shell with the environment active; with ``ok`` it must succeed.

    DVC's site folder lies beside ``folder``: what another folder knows of a remote is not known here.
    """
    site = {"DVC_SITE_CACHE_DIR": str(folder.with_name(f"{folder.name}-site")), "DVC_NO_ANALYTICS": "1"}
    result = subprocess.run(
        command, cwd=folder, env=environment(quick=True) | site, capture_output=True, text=True, timeout=timeout
    )
    assert result.returncode == 0 or not ok, f"{command}\n{result.stdout}\n{result.stderr}"
    return result


def commit(folder: Path, message: str = "Run") -> None:
    """Commit what a user would: the lock, the metrics and the remote."""
    named = [name for name in ("dvc.lock", "metrics", ".dvc/config") if os.path.exists(folder / name)]
    run(folder, *GIT, "add", *named)
    run(folder, *GIT, "commit", "-qm", message)


def fresh_clone(origin: Path, to: Path) -> Path:
    """A git clone, with nothing that git does not carry."""
    run(origin, "git", "clone", "-q", str(origin), str(to))
    return to


def ran_nothing(output: str) -> bool:
    """Whether a `dvc repro` had nothing to do."""
    return "Data and pipelines are up to date." in output and "Running stage" not in output
