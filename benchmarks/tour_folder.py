"""What tours have in common: a folder, its params, the real `dvc repro` in it, and tables of what it made."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

from labelstack.rehearsal.copy import copy_project, reproduce

HERE = Path(__file__).resolve().parent


def run_tour(what: str, params_of: Callable[..., dict[str, Any]], show: Callable[[], None]) -> None:
    """Run what was typed, and print; ``params_of(small=…)`` is the content of params.yaml."""
    parser = argparse.ArgumentParser(description=f"The tour of {what}.")
    parser.add_argument("folder", type=Path, help="new or empty; with --print one in which it has run")
    parser.add_argument("--small", action="store_true", help="few images, few epochs")
    parser.add_argument("--print", action="store_true", dest="only_print", help="tables alone")
    typed = parser.parse_args()
    if not typed.only_print:
        typed.folder.mkdir(parents=True, exist_ok=True)
        if any(typed.folder.iterdir()):
            sys.exit(f"{typed.folder}: is not empty; name a new folder")
        copy_project(HERE.parent, typed.folder.resolve(), params_of(small=typed.small))
        outcome = reproduce(typed.folder.resolve(), lambda stage: print(f"stage {stage}", flush=True))
        if outcome.message:
            sys.exit(f"failed at {outcome.stages[-1] if outcome.stages else 'the start'}\n{outcome.message}")
        print(f"{len(outcome.stages)} stages in {outcome.seconds:.0f} s\n")
    with chdir(typed.folder):
        show()
