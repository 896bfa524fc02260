"""The longest file goes first, so that two workers end together; the others that need its workspace come later."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != "test_repro.py")
