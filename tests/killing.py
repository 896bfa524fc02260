"""The tiny pipeline, killed with -9 again and again at seeded moments, then left to its end.

What runs is what `make repro` types: `labelstack recover`, then `dvc repro`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tiny import PATIENCE, Workspace, environment

LOG = "repro.log"
_STAGE = re.compile(r"^Running stage '([^']+)'", re.MULTILINE)


@dataclass(frozen=True)
class Undisturbed:
    """What one run without kills made, and the seconds that it took, in all and until its first stage began."""

    submission: str
    ensemble: str
    seconds: float
    start: float


@dataclass(frozen=True)
class Kill:
    """After how many seconds, and in which stage: the last that DVC said it runs."""

    seconds: float
    stage: str


@dataclass
class Round:
    """One workspace: its kills, and whether it ended with the undisturbed bytes."""

    number: int
    kills: list[Kill] = field(default_factory=list)
    problem: str = ""
    versions: int = 0


def submission_digest(workspace: Workspace) -> str:
    """SHA-256 of the submission."""
    return hashlib.sha256(workspace.submission()).hexdigest()


def ensemble_digest(workspace: Workspace) -> str:
    """The digest under which the ensemble was registered."""
    return str(json.loads((workspace.root / "models/ensemble/registration.json").read_text())["digest"])


def _started(workspace: Workspace) -> subprocess.Popen[bytes]:
    with (workspace.root.parent / LOG).open("ab") as log:
        return subprocess.Popen(
            ["bash", "-c", "labelstack recover && exec dvc repro"], cwd=workspace.root,
            env=environment() | {"PYTHONUNBUFFERED": "1"}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _said(workspace: Workspace, begin: int) -> str:
    return (workspace.root.parent / LOG).read_bytes()[begin:].decode(errors="replace")


def undisturbed(folder: Path) -> Undisturbed:
    """Run the pipeline once, in ``folder``."""
    workspace = Workspace(folder / "work")
    begin, start = time.monotonic(), 0.0
    process = _started(workspace)
    try:
        while process.poll() is None and time.monotonic() - begin < PATIENCE:
            if not start and _STAGE.search(_said(workspace, 0)):
                start = time.monotonic() - begin
            time.sleep(0.05)
    finally:
        _end(process)
    assert process.returncode == 0, _said(workspace, 0)[-2000:]
    return Undisturbed(submission_digest(workspace), ensemble_digest(workspace), time.monotonic() - begin, start)


def delays(seed: int, number: int, kills: int, expected: Undisturbed) -> list[float]:
    """Seconds after which each `dvc repro` of one workspace is killed: spread over the whole length, start included."""
    draw = random.Random(f"{seed}-{number}")
    moments = [0.0, *sorted(draw.uniform(0, expected.seconds) for _ in range(kills))]
    return [after - before + draw.uniform(0, expected.start) for before, after in pairwise(moments)]


def killed_round(folder: Path, seed: int, number: int, kills: int, expected: Undisturbed) -> Round:
    """Kill `dvc repro` in a fresh workspace so many times, run it to its end, and compare."""
    workspace, result = Workspace(folder / "work"), Round(number)
    log = folder / LOG
    for seconds in delays(seed, number, kills, expected):
        begin = log.stat().st_size if log.exists() else 0
        process = _started(workspace)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        finally:
            ended = process.poll()
            _end(process)
        said = _said(workspace, begin)
        if ended is None:
            stages = _STAGE.findall(said)
            result.kills.append(Kill(seconds, stages[-1] if stages else "before the first stage"))
        elif ended != 0:
            result.problem = f"after {len(result.kills)} kills `dvc repro` ended with {ended}: {said[-1500:]}"
            return result
    begin = log.stat().st_size
    process = _started(workspace)
    try:
        process.wait(PATIENCE)
    finally:
        _end(process)
    if process.returncode != 0:
        result.problem = f"the last `dvc repro` ended with {process.returncode}: {_said(workspace, begin)[-1500:]}"
        return result
    if submission_digest(workspace) != expected.submission:
        result.problem = "another submission"
    elif ensemble_digest(workspace) != expected.ensemble:
        result.problem = "another ensemble"
    with contextlib.closing(sqlite3.connect(workspace.root / "mlflow.db")) as database:
        (result.versions,) = database.execute("SELECT count(*) FROM model_versions").fetchone()
    return result
