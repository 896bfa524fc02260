"""Which version is champion, and who made which one champion when, and why."""

from __future__ import annotations

import getpass
import json
from collections.abc import Container
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Literal

from labelstack.registry.lock import Turn, one_at_a_time
from labelstack.support.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.runs import Tracker
from labelstack.tracking.texts import without_credentials

CANDIDATE, CHAMPION = "candidate", "champion"
MOVE_TAG = "labelstack.champion."
KEPT_MOVES = 100
_MAX_REASON = 1000  # a tag's column has 5,000 characters

How = Literal["first", "compared", "by hand", "back", "elsewhere"]
_HOWS: tuple[How, ...] = ("first", "compared", "by hand", "back", "elsewhere")


@dataclass(frozen=True)
class Move:
    """One move of the alias ``champion``.

    Attributes
    ----------
    when : str
        UTC, ISO 8601.
    who : str
        The user's name on the machine where it was done; empty when it is not known.
    before, after : version numbers; ``before`` is None for the first champion
    how : ``first``, ``compared``, ``by hand``, ``back``, or ``elsewhere`` when labelstack did not do it
    """

    when: str
    who: str
    before: int | None
    after: int
    how: How
    reason: str


def champion(tracker: Tracker, name: str) -> int | None:
    """The champion's version number, or None; raise ``UserError`` when there is no such registered model."""
    with store.explained(tracker.uri, f"read the registered model {name!r}"):
        held = tracker.client.get_registered_model(name).aliases.get(CHAMPION)
    return None if held is None else int(held)


def history(tracker: Tracker, name: str) -> list[Move]:
    """The champion's moves, oldest first: the newest 100."""
    return [move for _, move in _numbered(tracker, name)]


def previous(moves: list[Move], held: int | None, there: Container[int]) -> int | None:
    """The version that was champion before ``held``, of those that still are ``there``; None when there is none.

    A move back counts for nothing, nor does what it undoes.
    """
    reigns = [move.before for move in moves[:1]]
    for move in moves:
        if move.how == "back" and move.after in reigns:
            while reigns[-1] != move.after:
                reigns.pop()
        else:
            reigns.append(move.after)
    if reigns[-1:] != [held]:
        reigns.append(held)
    kept = [version for version, _ in groupby(v for v in reigns if v is not None and v in there)]
    return kept[-2] if len(kept) > 1 else None


def move_champion(tracker: Tracker, name: str, to: int, *, expected: int | None, how: How, reason: str) -> bool:
    """Make a version champion and note it in the history, unless the champion is no longer ``expected``.

    Returns
    -------
    bool
        False, and nothing changed, when another process moved it meanwhile.
    """
    with one_at_a_time(tracker, name) as turn:
        return move_within_turn(turn, to, expected=expected, how=how, reason=reason)


def move_within_turn(turn: Turn, to: int, *, expected: int | None, how: How, reason: str) -> bool:
    """``move_champion`` for callers that are in ``one_at_a_time`` already."""
    tracker, name = turn.tracker, turn.name
    held = champion(tracker, name)
    if held != expected:
        return False
    moves = _numbered(tracker, name)
    if held is not None and (not moves or moves[-1][1].after != held):
        last = moves[-1][1].after if moves else None
        found = Move(_now(), "", last, held, "elsewhere", "found as champion, nobody noted why")
        turn.check()
        moves.append((_add(tracker, name, found, moves), found))
    turn.check()
    with store.explained(tracker.uri, f"make version {to} of {name!r} champion"):
        tracker.client.set_registered_model_alias(name, CHAMPION, str(to))
        reason = without_credentials(reason)[:_MAX_REASON]
        _add(tracker, name, Move(_now(), _user(), held, to, how, reason), moves)
        for number, _ in moves[: max(0, len(moves) + 1 - KEPT_MOVES)]:
            tracker.client.delete_registered_model_tag(name, _key(number))
    return True


def _add(tracker: Tracker, name: str, move: Move, moves: list[tuple[int, Move]]) -> int:
    number = moves[-1][0] + 1 if moves else 1
    tracker.client.set_registered_model_tag(name, _key(number), json.dumps(asdict(move), ensure_ascii=False))
    return number


def _numbered(tracker: Tracker, name: str) -> list[tuple[int, Move]]:
    with store.explained(tracker.uri, f"read the registered model {name!r}"):
        tags = tracker.client.get_registered_model(name).tags
    moves = [(key.removeprefix(MOVE_TAG), value) for key, value in tags.items() if key.startswith(MOVE_TAG)]
    read = [(int(number), _read(text)) for number, text in moves if number.isdigit()]
    return sorted(((number, move) for number, move in read if move), key=lambda entry: entry[0])


def _read(text: str) -> Move | None:
    """A move out of its tag; None when somebody has changed the tag by hand into something else."""
    try:
        content = json.loads(text)
        before = content["before"]
        how = next(how for how in _HOWS if how == content["how"])
        texts = (str(content["when"]), str(content["who"]))
        return Move(*texts, None if before is None else int(before), int(content["after"]), how, str(content["reason"]))
    except (ValueError, KeyError, TypeError, StopIteration):
        return None


def _key(number: int) -> str:
    return f"{MOVE_TAG}{number:04d}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def require_reason(reason: str) -> str:
    """The reason without spaces around it; raise ``UserError`` when there is none."""
    if not (reason := " ".join(reason.split())):
        raise UserError('say why, others will ask: --reason "…"')
    return reason
