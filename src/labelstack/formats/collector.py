"""Python's garbage collector, paused while millions of small lists are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """No collections inside this context (also a decorator).

    They walk all objects made so far, again and again, and find no garbage among lists of numbers and text: more than
    half of the time of reading a million records.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
