"""What takes longest goes first, so that two workers end together: one makes the workspace that many tests copy while
the other rehearses recipes.

`make test` draws the same examples every time, so that what passed once passes again; `make test-full` draws others
each time, and says with which it failed.
"""

from __future__ import annotations

import os

import hypothesis
import pytest

from workspaces import copied, finished, workspace

__all__ = ["copied", "finished", "workspace"]  # fixtures, for all rooms

hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("others", print_blob=True)
hypothesis.settings.load_profile("others" if os.environ.get("LABELSTACK_TESTS") == "full" else "same")


LONG = {"finished", "workspace", "copied", "team"}  # fixtures that run the whole pipeline, or start a team's server


@pytest.hookimpl(tryfirst=True)  # before markers choose
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if LONG & set(getattr(item, "fixturenames", ())):
            item.add_marker("long")
    first = ("test_repro.py", "test_recipes.py")
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))
