"""Memory of big images, given back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any


def give_back() -> None:
    """Give back what is free in this process, where the C library can: glibc's keeps what Pillow has freed.

    Pillow's images lie in blocks of 16 MB, which glibc takes from its heaps and not from the system one by one.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], Any] | None:
    try:
        return ctypes.CDLL(None).malloc_trim  # type: ignore[no-any-return]
    except (OSError, AttributeError, TypeError):  # another C library, or another system
        return None
