"""The longest file goes first, so that two workers end together; the others that need its workspace come later.

`make test` draws the same examples every time, so that what passed once passes again; `make test-full` draws others
each time, and says with which it failed.
"""

from __future__ import annotations

import os

import hypothesis
import pytest

hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("others", print_blob=True)
hypothesis.settings.load_profile("others" if os.environ.get("LABELSTACK_TESTS") == "full" else "same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != "test_repro.py")
