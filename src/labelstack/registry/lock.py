"""One process at a time changes a registered model, on whatever store: MLflow itself has no such lock."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from labelstack.support.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.runs import Tracker

FLAG = "labelstack.turn."
_logger = logging.getLogger(__name__)


class Turn:
    """A flag, a tag of its own on a registered model, that one contender raises, renews and takes down."""

    def __init__(self, tracker: Tracker, name: str, dead_after: float) -> None:
        self.tracker, self.name, self.dead_after = tracker, name, dead_after
        self.key = FLAG + uuid.uuid4().hex
        self._seen: dict[tuple[str, str], float] = {}
        self._slowest = 0.0  # seconds of the longest answer yet
        self._raised = 0

    def free(self) -> bool:
        """Raise the flag where no other stands; whether it still is the only one then."""
        with store.explained(self.tracker.uri, f"change the registered model {self.name!r}"):
            if self._others():
                return False
            self._raise()
            if not self._others():
                return True
            self.tracker.client.delete_registered_model_tag(self.name, self.key)
            return False

    def check(self) -> None:
        """See that the flag still stands, before what must not be done twice; raise ``UserError`` otherwise."""
        with store.explained(self.tracker.uri, f"change the registered model {self.name!r}"):
            tags = self.tracker.client.get_registered_model(self.name).tags
        if self.key not in tags:
            raise UserError(
                f"MLflow at {self.tracker.public_uri}: another process changed {self.name!r} meanwhile, as nothing was "
                "heard from this one; nothing more was done: run the command again"
            )

    def renew(self, ended: threading.Event) -> None:
        """Show that this process lives until ``ended``, several times in each ``dead_after`` seconds."""
        while not ended.wait(self.dead_after / 4):
            try:
                if self.key not in self.tracker.client.get_registered_model(self.name).tags:
                    return  # taken for dead: ``check`` finds it out
                self._raise()
            except Exception as error:  # the store may answer again next time
                _logger.info("%s", error)

    def take_down(self) -> None:
        """Remove the flag; where that fails, others will find it dead."""
        try:
            with store.explained(self.tracker.uri, f"release the registered model {self.name!r}"):
                self.tracker.client.delete_registered_model_tag(self.name, self.key)
        except UserError as error:
            _logger.info("%s", error)

    def _raise(self) -> None:
        self._raised += 1
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.tracker.client.set_registered_model_tag(self.name, self.key, f"{now} {self._raised}")

    def _others(self) -> bool:
        """Whether somebody else's flag stands; those of the dead are removed.

        The slower the store answers, the longer a living process needs to renew its flag: two answers, and one more
        may pass until it is seen here.
        """
        asked = time.monotonic()
        tags = self.tracker.client.get_registered_model(self.name).tags
        now, alive = time.monotonic(), False
        self._slowest = max(self._slowest, now - asked)
        for flag in ((k, v) for k, v in tags.items() if k.startswith(FLAG) and k != self.key):
            if now - self._seen.setdefault(flag, now) > self.dead_after + 4 * self._slowest:
                self.tracker.client.delete_registered_model_tag(self.name, flag[0])
            else:
                alive = True
        return alive


@contextmanager
def one_at_a_time(tracker: Tracker, name: str, *, patience: float = 120, dead_after: float = 20) -> Iterator[Turn]:
    """Within the context no other process is within it for the same registered model.

    Each contender raises a flag and then looks: whoever sees no other flag goes in and renews its own from a thread,
    whoever sees one takes its own down and waits a random while. Of two, the one that looked last saw both. A flag
    that stands unchanged for ``dead_after`` seconds (longer where the store is slow) belongs to a killed process and is
    removed. A process that was stopped for so long must ``check`` its turn before it changes what others rely on.

    Raises
    ------
    UserError
        When the registered model is absent, or it is never this process's turn within ``patience`` seconds.
    """
    turn = Turn(tracker, name, dead_after)
    ended = threading.Event()
    renewing = threading.Thread(target=turn.renew, args=(ended,), name="turn", daemon=True)
    deadline, attempt = time.monotonic() + patience, 0
    try:
        while not turn.free():
            if time.monotonic() > deadline:
                raise UserError(
                    f"MLflow at {tracker.public_uri}: other processes have been changing {name!r} for "
                    f"{patience:.0f} s; try again later"
                )
            attempt += 1
            time.sleep(random.uniform(0.02, min(1.0, 0.1 * attempt)))
        renewing.start()
        yield turn
    finally:
        ended.set()
        if renewing.ident is not None:
            renewing.join()  # else it might raise the flag again
        turn.take_down()
