"""A copy of the project in a folder of its own, and the real `dvc repro` in it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labelstack.params.dvc_file import read_pipeline
from labelstack.support.errors import UserError

LOG = "rehearsal.log"
_FILES = ("dvc.yaml", ".dvcignore", ".gitignore", "requirements.lock")
# No remote and no cache but the folder's own, whatever the machine's settings say.
_DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n[cache]\n    dir = cache\n"
_DVC_IGNORED = "/config.local\n/tmp\n/cache\n"
_STAGE = re.compile(r"^Running stage '([^']+)'")
_SHOWN = 40  # lines of a failed stage


@dataclass(frozen=True)
class Outcome:
    """What `dvc repro` did.

    Attributes
    ----------
    stages : names of the stages that ran, in order; the last one failed unless ``message`` is empty
    message : what was printed since the last stage began, when it failed
    seconds : float
    """

    stages: list[str]
    message: str
    seconds: float


def copy_project(project: Path, folder: Path, params: dict[str, Any]) -> None:
    """Copy what the stages need of a project into an empty folder: dvc.yaml, the code, no data, no outputs, no remote.

    Parameters
    ----------
    project, folder : Path
    params : dict
        Content of the copy's params.yaml.
    """
    if not shutil.which("git"):
        raise UserError("git is not installed, and the pipeline records the commit of its results")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in dict.fromkeys([*_FILES, "src", *_code(project, params)]):
        source, target = project / name, folder / name
        if target.exists() or not source.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copy(source, target)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True), encoding="utf-8")
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc" / "config").write_text(_DVC_CONFIG, encoding="utf-8")
    (folder / ".dvc" / ".gitignore").write_text(_DVC_IGNORED, encoding="utf-8")
    author = ["-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "--no-verify", "-m", "Rehearsal"]):
        subprocess.run(["git", *command], cwd=folder, env=environment(folder), check=True)


def reproduce(folder: Path, tell: Callable[[str], None]) -> Outcome:
    """Run every stage in the folder; ``tell`` is called with each stage's name as it begins. All output: ``LOG``."""
    stages: list[str] = []
    since: list[str] = []
    started = time.monotonic()
    with (folder / LOG).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"], cwd=folder, env=environment(folder), text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                log.flush()
                if found := _STAGE.match(line):
                    stages.append(found[1])
                    since = []
                    tell(found[1])
                since.append(line)
        finally:
            if process.poll() is None:  # interrupted: the stage under way ends too
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    failed = "".join(since[-_SHOWN:]).strip() if process.returncode else ""
    return Outcome(stages, failed or ("dvc repro failed" if process.returncode else ""), time.monotonic() - started)


def environment(folder: Path) -> dict[str, str]:
    """This process's environment without what leads elsewhere: other stores, repositories, shared DVC settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_", "GIT_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {f"DVC_{kind}_CONFIG_DIR": str(folder / ".dvc" / "tmp" / "settings") for kind in ("GLOBAL", "SYSTEM")}
    return kept | own | {"PATH": path, "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}


def _code(project: Path, params: dict[str, Any]) -> Iterator[str]:
    """What stages depend on and none of them makes: not the data set nor anything else that a param places."""
    stages = read_pipeline(project / "dvc.yaml", params).stages
    made = [out for stage in stages for out in stage.outs]
    for place in (dep for stage in stages for dep in stage.deps):
        path = os.path.relpath(place.path)  # as in dvc.yaml: places are taken from the current folder
        own = not place.keys and path != "params.yaml" and not path.startswith("..")
        if own and not any(place.overlaps(out) for out in made):
            yield path
