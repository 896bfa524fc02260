"""The name that versions registered before 0.2 import: their entry point asks for `labelstack.tracking.ensemble`.

Where labelstack is imported already, that one runs and not the copy which such a version carries.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Whatever `labelstack.ensemble.ensemble` has."""
    import importlib

    return getattr(importlib.import_module("labelstack.ensemble.ensemble"), name)
