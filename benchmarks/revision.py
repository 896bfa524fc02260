"""The source of another git revision, for benchmarks that run before and now in turns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def source_of(revision: str, folder: Path) -> Iterator[Path]:
    """Its ``src`` in a git worktree below ``folder``, which goes in the end."""
    place = folder / "revision"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(place), revision], cwd=ROOT, check=True)
    try:
        yield place / "src"
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(place)], cwd=ROOT, check=True)


def run_with(source: Path, script: str, *arguments: str) -> str:
    """Standard output of a script of this folder whose ``labelstack`` is that of ``source``."""
    paths = os.pathsep.join([str(source), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / script), *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return done.stdout
