"""How many cores there are to work with, and work shared among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def cores() -> int:
    """Cores that this process may use; all of the machine's where the system has no say in it (macOS, Windows)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
    """Results in the items' order, a thread for each core: for work that NumPy does outside of Python's lock."""
    todo = list(items)
    if len(todo) < 2 or cores() < 2:
        return [work(item) for item in todo]
    with ThreadPoolExecutor(min(cores(), len(todo))) as pool:
        return list(pool.map(work, todo))
