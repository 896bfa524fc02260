"""Each room's tests run on one worker, so that its servers and workspaces start once; the longest room goes first."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.parent.name))
    items.sort(key=lambda item: item.path.parent.name != "pipeline")
