"""The longest files go first, so that two workers end together."""

from __future__ import annotations

import pytest

LONGEST = ("test_repro.py", "test_push.py", "test_mlflow_ui.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
