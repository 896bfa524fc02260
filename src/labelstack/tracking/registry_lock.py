"""One process at a time changes a registered model, on whatever store: MLflow itself has no such lock."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from labelstack.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.runs import Tracker

FLAG = "labelstack.turn."
_logger = logging.getLogger(__name__)


@contextmanager
def one_at_a_time(tracker: Tracker, name: str, *, patience: float = 120, dead_after: float = 20) -> Iterator[None]:
    """Within the context no other process is within it for the same registered model.

    Each contender raises a flag, a tag of its own on the registered model, and then looks: whoever sees no other flag
    goes in, whoever sees one takes its own down and waits a random while. Of two, the one that looked last saw both.
    A flag that stands unchanged for ``dead_after`` seconds belongs to a killed process and is removed; what is done
    inside must be quicker.

    Raises
    ------
    UserError
        When the registered model is absent, or it is never this process's turn within ``patience`` seconds.
    """
    key = FLAG + uuid.uuid4().hex
    seen: dict[tuple[str, str], float] = {}
    deadline, attempt = time.monotonic() + patience, 0
    try:
        while not _free(tracker, name, key, seen, dead_after, attempt):
            if time.monotonic() > deadline:
                raise UserError(
                    f"MLflow at {tracker.public_uri}: other processes have been changing {name!r} for "
                    f"{patience:.0f} s; try again later"
                )
            attempt += 1
            time.sleep(random.uniform(0.02, min(1.0, 0.1 * attempt)))
        yield
    finally:
        _take_down(tracker, name, key)


def _free(
    tracker: Tracker, name: str, key: str, seen: dict[tuple[str, str], float], dead_after: float, attempt: int
) -> bool:
    """Raise the flag where no other stands; whether it still is the only one then."""
    with store.explained(tracker.uri, f"change the registered model {name!r}"):
        if _others(tracker, name, key, seen, dead_after):
            return False
        now = datetime.now(UTC).isoformat(timespec="seconds")
        tracker.client.set_registered_model_tag(name, key, f"{now} {attempt}")
        if not _others(tracker, name, key, seen, dead_after):
            return True
        tracker.client.delete_registered_model_tag(name, key)
        return False


def _others(tracker: Tracker, name: str, key: str, seen: dict[tuple[str, str], float], dead_after: float) -> bool:
    """Whether somebody else's flag stands; those of the dead are removed."""
    tags = tracker.client.get_registered_model(name).tags
    flags = [(k, v) for k, v in tags.items() if k.startswith(FLAG) and k != key]
    now, alive = time.monotonic(), False
    for flag in flags:
        if now - seen.setdefault(flag, now) > dead_after:
            tracker.client.delete_registered_model_tag(name, flag[0])
        else:
            alive = True
    return alive


def _take_down(tracker: Tracker, name: str, key: str) -> None:
    try:
        with store.explained(tracker.uri, f"release the registered model {name!r}"):
            tracker.client.delete_registered_model_tag(name, key)
    except UserError as error:  # others will find it dead
        _logger.info("%s", error)
