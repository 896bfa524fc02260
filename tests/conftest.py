"""What takes longest goes first, so that workers end together: one makes the workspace that many tests copy while the
others do what needs none.

`make test` draws the same examples every time, so that what passed once passes again; `make test-full` draws others
each time, and says with which it failed.
"""

from __future__ import annotations

import os

import hypothesis
import pytest

import tiny
from workspaces import copied, finished, workspace

__all__ = ["copied", "finished", "workspace"]  # fixtures, for all rooms

hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("others", print_blob=True)
hypothesis.settings.load_profile("others" if os.environ.get("LABELSTACK_TESTS") == "full" else "same")


LONG = {"finished", "workspace", "copied", "team"}  # fixtures that run the whole pipeline, or start a team's server
FIRST = (
    "test_repro.py",
    "test_recipes.py",
    "test_second_round.py",
    "test_by_fold.py",
    "test_single_label_to_the_end.py",
    "test_museum_to_the_end.py",
    "test_table_to_the_end.py",
    "test_training.py",
    "test_graph.py",
    "test_cluster.py",
    "test_field_networks.py",
    "test_timm_networks.py",
    "test_server.py",
    "test_secrets.py",
)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart() -> None:
    """Of the processes that tests start, coverage measures only those that ask for it, rather than all."""
    found = [key for key in os.environ if key.startswith("COVERAGE_PROCESS_")]
    tiny.MEASURING.update({key: os.environ.pop(key) for key in found})


@pytest.hookimpl(tryfirst=True)  # before markers choose
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if LONG & set(getattr(item, "fixturenames", ())):
            item.add_marker("long")
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))
