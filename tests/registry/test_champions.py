from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime

import pytest

from labelstack.registry import champions
from labelstack.registry.champions import MOVE_TAG, How, Move, champion, history, move_champion, previous
from labelstack.registry.champions import require_reason as required
from labelstack.support.errors import UserError
from labelstack.tracking.runs import Tracker
from registry.versions import registered


@pytest.fixture
def four(tracker: Tracker) -> Tracker:
    """Versions 1 to 4, the first of them champion."""
    for i in range(4):
        registered(tracker, f"d{i}")
    return tracker


def moves(*given: tuple[int | None, int, How]) -> list[Move]:
    return [Move("", "", before, after, how, "") for before, after, how in given]


def test_who_when_from_to_and_why(four: Tracker) -> None:
    assert move_champion(four, "m", 3, expected=1, how="by hand", reason="see https://me:secret@example.org/x")
    first, second = history(four, "m")
    assert (first.before, first.after, first.how, first.reason) == (None, 1, "first", "there was no champion")
    assert (second.before, second.after, second.how) == (1, 3, "by hand")
    assert second.reason == "see https://example.org/x"
    assert second.who == getpass.getuser()
    age = datetime.now(UTC) - datetime.fromisoformat(second.when)
    assert 0 <= age.total_seconds() < 60
    assert champion(four, "m") == 3


def test_a_move_on_a_wrong_assumption_changes_nothing(four: Tracker) -> None:
    assert not move_champion(four, "m", 3, expected=2, how="compared", reason="better than v2")
    assert champion(four, "m") == 1
    assert len(history(four, "m")) == 1


def test_moves_by_other_means_are_noted(four: Tracker) -> None:
    four.client.set_registered_model_alias("m", "champion", "2")
    assert move_champion(four, "m", 3, expected=2, how="by hand", reason="x")
    told = [(move.before, move.after, move.how) for move in history(four, "m")]
    assert told == [(None, 1, "first"), (1, 2, "elsewhere"), (2, 3, "by hand")]


def test_the_history_is_bounded(four: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champions, "KEPT_MOVES", 3)
    for to, held in ((2, 1), (3, 2), (4, 3), (1, 4)):
        assert move_champion(four, "m", to, expected=held, how="by hand", reason="r" * 5000)
    assert [move.after for move in history(four, "m")] == [3, 4, 1]
    tags = four.client.get_registered_model("m").tags
    assert sorted(key for key in tags if key.startswith(MOVE_TAG)) == [f"{MOVE_TAG}{n:04d}" for n in (3, 4, 5)]
    assert all(len(value) < 5000 for value in tags.values())


def test_tags_that_somebody_spoilt_are_passed_over(four: Tracker) -> None:
    good = json.loads(four.client.get_registered_model("m").tags[f"{MOVE_TAG}0001"])
    for number, text in enumerate(
        ["{", "[]", "{}", json.dumps({**good, "how": "x"}), json.dumps({**good, "after": "x"})]
    ):
        four.client.set_registered_model_tag("m", f"{MOVE_TAG}{number + 2:04d}", text)
    four.client.set_registered_model_tag("m", f"{MOVE_TAG}last", json.dumps(good))
    assert [move.after for move in history(four, "m")] == [1]
    assert move_champion(four, "m", 2, expected=1, how="by hand", reason="x")
    assert [move.after for move in history(four, "m")] == [1, 2]


@pytest.mark.parametrize(
    ("given", "held", "expected"),
    [
        ([], None, None),
        ([], 2, None),
        (moves((None, 1, "first")), 1, None),
        (moves((None, 1, "first"), (1, 2, "compared")), 2, 1),
        (moves((None, 1, "first"), (1, 2, "compared"), (2, 1, "back")), 1, None),
        (moves((None, 1, "first"), (1, 2, "compared"), (2, 3, "by hand"), (3, 2, "back")), 2, 1),
        (moves((None, 1, "first"), (1, 2, "compared"), (2, 1, "by hand")), 1, 2),
        (moves((2, 3, "by hand")), 3, 2),
        (moves((None, 1, "first"), (1, 2, "compared")), 3, 2),
        (moves((None, 1, "first"), (1, 9, "compared"), (9, 2, "compared")), 2, 1),
        (moves((None, 1, "first"), (1, 2, "compared"), (2, 9, "compared"), (9, 2, "compared")), 2, 1),
    ],
)
def test_the_champion_before(given: list[Move], held: int | None, expected: int | None) -> None:
    assert previous(given, held, {1, 2, 3, 4}) == expected


def test_no_champion_and_no_model(tracker: Tracker) -> None:
    registered(tracker, "d1")
    tracker.client.delete_registered_model_alias("m", "champion")
    assert champion(tracker, "m") is None
    assert move_champion(tracker, "m", 1, expected=None, how="by hand", reason="x")
    with pytest.raises(UserError, match="read the registered model 'nothing'"):
        champion(tracker, "nothing")
    with pytest.raises(UserError, match="make version 7 of 'm' champion"):
        move_champion(tracker, "m", 7, expected=1, how="by hand", reason="x")
    assert champion(tracker, "m") == 1


def test_a_user_without_a_name(four: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    move_champion(four, "m", 2, expected=1, how="by hand", reason="x")
    assert history(four, "m")[-1].who == "unknown"


def test_a_reason_is_a_line_of_text() -> None:
    assert required("  fewer\nfalse alarms ") == "fewer false alarms"
    for nothing in ("", "  \n"):
        with pytest.raises(UserError, match="--reason"):
            required(nothing)
