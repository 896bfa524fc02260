"""Which MLflow runs a stage opens, for whoever tells people of the stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelstack.tracking.run import Run

_hearers: list[Callable[[Run], None]] = []


@contextmanager
def hearing(hear: Callable[[Run], None]) -> Iterator[None]:
    """Within the context ``hear`` is called with every run that is opened, once it is there."""
    _hearers.append(hear)
    try:
        yield
    finally:
        _hearers.remove(hear)


def say_opened(run: Run) -> None:
    """Call whoever wants to know."""
    for hear in _hearers:
        hear(run)
