"""What runs on a worker of the cluster: a look around before the work, and one task at a time."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import platform
import threading
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import labelstack
from labelstack.support.errors import UserError

# What decides about bytes; the second name is the same package in another build.
PACKAGES = (
    ("numpy",),
    ("tensorflow-cpu", "tensorflow"),
    ("keras",),
    ("xgboost-cpu", "xgboost"),
    ("scikit-learn",),
    ("scipy",),
    ("pillow",),
    ("opencv-python-headless", "opencv-python"),
    ("pyarrow",),
)
_ONE_TASK = threading.Lock()


@cache
def versions() -> dict[str, str]:
    """Versions of Python, labelstack and the packages that decide about results; ``code`` is a digest of labelstack.

    Counted once a process: a worker that has imported labelstack keeps the code it has, whatever changes on disk.
    """
    here = {"python": platform.python_version(), "labelstack": labelstack.__version__, "code": _code()}
    return here | package_versions()


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide about results."""
    return {
        names[-1]: next((version for name in names if (version := _version(name))), "not installed")
        for names in PACKAGES
    }


def look_around(workspace: str, probe: str, answer: str) -> dict[str, Any]:
    """Versions on this worker, the text in the probe file if it is seen, and whether an answer could be written."""
    seen = ""
    with contextlib.suppress(OSError):
        seen = Path(workspace, probe).read_text(encoding="utf-8")
    written = False
    with contextlib.suppress(OSError):
        Path(workspace, f"{answer}-{platform.node()}-{os.getpid()}").touch()
        written = True
    return {"versions": versions(), "seen": seen, "written": written}


def name_of(function: Any) -> str:
    """The name under which a worker finds a function; raise ``ValueError`` for one that none can find."""
    name = f"{function.__module__}:{function.__qualname__}"
    try:
        found = _find(name)
    except (AttributeError, ValueError):
        found = None
    if found is not function:
        raise ValueError(f"{name}: a task must be a function at the top level of a module of labelstack")
    return name


def run_task(task: str) -> str:
    """Do one task, given and answered as JSON; a second one in this process waits.

    Layers, random streams and the current folder belong to the whole process, hence one at a time, whatever the
    number of the worker's threads.
    """
    content = json.loads(task)
    with _ONE_TASK:
        try:
            if content["code"] != versions()["code"]:
                raise UserError(f"worker {_here()} runs other code of labelstack than the client: start it again")
            if "s3" in content:
                from labelstack.compute.object_store import run_with_files

                return json.dumps(run_with_files(content, lambda: _call(content)))
            with contextlib.chdir(content["workspace"]):
                return json.dumps({"result": _call(content)})
        except UserError as error:
            return json.dumps({"problem": str(error)})


def _call(content: dict[str, Any]) -> Any:
    return _find(content["function"])(content["job"])


def _find(name: str) -> Any:
    module, _, function = name.partition(":")
    if module.partition(".")[0] != "labelstack" or "." in function:
        raise ValueError(f"{name}: not a function of labelstack")
    return getattr(importlib.import_module(module), function)


def _here() -> str:
    return f"{platform.node()} (process {os.getpid()})"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _code() -> str:
    folder = Path(labelstack.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
