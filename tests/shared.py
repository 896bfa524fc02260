"""What all pytest workers of a run share: made once, by whichever comes first."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of this pytest run, the same one in every worker."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """``folder`` as ``make`` leaves it.

    Others wait for the worker that makes it. What a killed worker left half-made is made anew; once ``make`` has
    failed, everybody fails at once, with its reason.
    """
    done, failed = (folder.with_name(f"{folder.name}.{end}") for end in ("done", "failed"))
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if failed.exists():
            pytest.fail(
                f"{folder.name}, which many tests share, could not be made:\n{failed.read_text()}", pytrace=False
            )
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                make(folder)
            except (Exception, pytest.fail.Exception) as error:
                failed.write_text(f"{type(error).__name__}: {error}")
                raise
            done.touch()
    return folder
