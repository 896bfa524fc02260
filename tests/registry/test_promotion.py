from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack.params.metric import MetricSection
from labelstack.registry import promotion
from labelstack.registry.champions import champion, history, move_champion
from labelstack.registry.promotion import COMPARED_TAG, PROMOTION_TAG, Promotion, promote_if_better
from labelstack.registry.versions import DATA_TAG
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import FMetric, Metric, metric_of
from labelstack.scoring.scored import Scored
from labelstack.support.errors import UserError
from labelstack.tracking.runs import Tracker
from registry.versions import N_LABELS, TRUTH, N, registered, scored, sets

F1 = FMetric()
GOOD, MIDDLING, BAD = sets(0.02), sets(0.2), sets(0.4)


def tags(tracker: Tracker, version: int) -> dict[str, str]:
    return dict(tracker.client.get_model_version("m", str(version)).tags)


def two(
    tracker: Tracker, first: Scored | None, second: Scored | None, metric: Metric = F1
) -> tuple[Promotion, dict[str, float]]:
    """Register and promote two ensembles after each other; the decision on the second, and its metrics."""
    promote_if_better(tracker, "m", registered(tracker, "d1", first).version, metric)
    logged: dict[str, float] = {}
    second_version = registered(tracker, "d2", second).version
    return promote_if_better(tracker, "m", second_version, metric, logged.update), logged


def test_the_first_version_is_champion(tracker: Tracker) -> None:
    version = registered(tracker, "d1", scored(BAD)).version
    found = promote_if_better(tracker, "m", version, F1)
    assert found == Promotion(True, "champion: there was none before")
    assert champion(tracker, "m") == 1
    assert tags(tracker, 1)[PROMOTION_TAG] == found.sentence
    assert COMPARED_TAG not in tags(tracker, 1)
    (move,) = history(tracker, "m")
    assert (move.before, move.after, move.how) == (None, 1, "first")


def test_a_registry_without_a_champion_gets_one(tracker: Tracker) -> None:
    for digest in ("d1", "d2"):
        registered(tracker, digest, scored(BAD))
    tracker.client.delete_registered_model_alias("m", "champion")
    assert promote_if_better(tracker, "m", 2, F1) == Promotion(True, "champion: there was none before")
    assert champion(tracker, "m") == 2


@pytest.mark.parametrize("metric", [FMetric(), FMetric("micro", 2), FMetric("macro", 0.5)])
def test_a_better_one_becomes_champion(tracker: Tracker, metric: Metric) -> None:
    found, logged = two(tracker, scored(BAD), scored(GOOD), metric)
    expected = bootstrap.paired(metric, TRUTH, GOOD, BAD)
    assert expected.low > 0
    assert found.champion
    assert champion(tracker, "m") == 2
    assert found.compared is not None
    assert found.compared.difference == expected
    assert logged == {
        "promotion_difference": expected.score,
        "promotion_low": expected.low,
        "promotion_high": expected.high,
    }
    told = f"{expected.score:+.4f} {metric.title}, 95 % interval {expected.low:+.4f}"
    assert found.sentence.startswith("champion: better than v1 on the same data")
    assert told in found.sentence
    assert tags(tracker, 2)[COMPARED_TAG] == "m/1"
    assert [(move.before, move.after, move.how) for move in history(tracker, "m")][-1] == (1, 2, "compared")


def test_a_worse_one_does_not(tracker: Tracker) -> None:
    found, logged = two(tracker, scored(GOOD), scored(BAD))
    assert not found.champion
    assert champion(tracker, "m") == 1
    assert logged["promotion_high"] < 0
    assert found.sentence.startswith("v1 stays champion: this one is worse (-")
    assert tags(tracker, 2)[PROMOTION_TAG] == found.sentence
    assert {a: int(v) for a, v in tracker.client.get_registered_model("m").aliases.items()} == {
        "candidate": 2,
        "champion": 1,
    }


def test_a_gain_that_may_be_chance_does_not(tracker: Tracker) -> None:
    slightly = MIDDLING.copy()
    slightly[0] = TRUTH[0]
    found, logged = two(tracker, scored(MIDDLING), scored(slightly))
    assert logged["promotion_difference"] > 0
    assert logged["promotion_low"] <= 0
    assert "not better beyond chance" in found.sentence
    assert champion(tracker, "m") == 1


def test_the_same_data_in_another_order(tracker: Tracker) -> None:
    better = scored(GOOD)
    rows, columns = np.random.default_rng(2).permutation(N), np.random.default_rng(3).permutation(N_LABELS)
    pick = np.ix_(rows, columns)
    shuffled = type(better)(better.image_id[rows], better.label_id[columns], TRUTH[pick], {"blend": GOOD[pick]})
    found, _ = two(tracker, scored(BAD), shuffled)
    assert found.champion


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (scored(BAD), scored(GOOD, TRUTH ^ (np.arange(N) == 3)[:, None]), "v1 was scored on other data"),
        (scored(BAD), scored(GOOD[:-1], TRUTH[:-1]), "v1 was scored on other data"),
        (None, scored(GOOD), "v1 keeps no record"),
        (scored(BAD), None, "v2 keeps no record"),
        (scored(BAD, name="cnn"), scored(GOOD), "the record of v1 can't be read"),
    ],
)
def test_what_cannot_be_compared_leaves_the_champion(
    tracker: Tracker, first: Scored | None, second: Scored | None, said: str
) -> None:
    found, logged = two(tracker, first, second)
    assert not found.champion
    assert champion(tracker, "m") == 1
    assert found.sentence.startswith("v1 stays champion: ")
    assert said in found.sentence
    assert logged == {}


def test_the_files_count_and_not_the_tag_alone(tracker: Tracker) -> None:
    other = scored(BAD, ~TRUTH)
    promote_if_better(tracker, "m", registered(tracker, "d1", other, {DATA_TAG: scored(GOOD).digest}).version, F1)
    found = promote_if_better(tracker, "m", registered(tracker, "d2", scored(GOOD)).version, F1)
    assert f"other data ({other.digest}, this one on {scored(GOOD).digest})" in found.sentence


def test_files_that_are_gone(tracker: Tracker) -> None:
    promote_if_better(tracker, "m", registered(tracker, "d1", scored(BAD)).version, F1)
    for file in tracker.root.rglob("scored.npz"):
        file.unlink()
    found = promote_if_better(tracker, "m", registered(tracker, "d2", scored(GOOD)).version, F1)
    assert "the record of v1 can't be read" in found.sentence
    assert champion(tracker, "m") == 1


def test_a_decision_is_taken_once(tracker: Tracker) -> None:
    two(tracker, scored(GOOD), scored(BAD))
    move_champion(tracker, "m", 2, expected=1, how="by hand", reason="to see")
    for version, is_champion in ((1, False), (2, True)):
        before = tags(tracker, version)[PROMOTION_TAG]
        again = promote_if_better(tracker, "m", version, FMetric(), lambda metrics: pytest.fail("logged twice"))
        assert (again.champion, again.sentence) == (is_champion, before)
    assert len(history(tracker, "m")) == 2


def test_a_decision_that_a_kill_cut_short_is_taken_again(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    promote_if_better(tracker, "m", registered(tracker, "d1", scored(BAD)).version, F1)
    version = registered(tracker, "d2", scored(GOOD)).version

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tracker.client, "set_model_version_tag", killed)
        with pytest.raises(KeyboardInterrupt):
            promote_if_better(tracker, "m", version, F1)
    assert champion(tracker, "m") == 2
    assert PROMOTION_TAG not in tags(tracker, 2)
    logged: dict[str, float] = {}
    found = promote_if_better(tracker, "m", version, FMetric(), logged.update)
    assert found.champion
    assert found.sentence.startswith("champion: better than v1")
    assert logged["promotion_low"] > 0
    assert tags(tracker, 2)[COMPARED_TAG] == "m/1"
    assert len(history(tracker, "m")) == 2


def test_a_champion_made_by_hand_before_its_decision_keeps_the_reason(tracker: Tracker) -> None:
    registered(tracker, "d1", scored(GOOD))
    registered(tracker, "d2", scored(BAD))
    move_champion(tracker, "m", 2, expected=1, how="by hand", reason="a friend wants it")
    found = promote_if_better(tracker, "m", 2, F1)
    assert (found.champion, found.sentence) == (True, "champion: a friend wants it")


def test_a_champion_that_moves_meanwhile_is_compared_with_anew(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for digest, chosen in (("d1", BAD), ("d2", GOOD), ("d3", MIDDLING)):
        registered(tracker, digest, scored(chosen))
    compare = promotion.compare_versions

    def while_another_moves(tracker: Tracker, name: str, version: int, other: int, metric: Metric) -> object:
        found = compare(tracker, name, version, other, metric)
        if other == 1:
            move_champion(tracker, name, 2, expected=1, how="compared", reason="better")
        return found

    monkeypatch.setattr(promotion, "compare_versions", while_another_moves)
    found = promote_if_better(tracker, "m", 3, F1)
    assert found.sentence.startswith("v2 stays champion: this one is worse")
    assert champion(tracker, "m") == 2


def test_a_champion_that_never_stands_still(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(tracker, "d1", scored(BAD))
    registered(tracker, "d2", scored(GOOD))
    monkeypatch.setattr(promotion, "move_champion", lambda *_, **__: False)
    with pytest.raises(UserError, match="the champion changed 20 times"):
        promote_if_better(tracker, "m", 2, F1)


RANKING = metric_of(MetricSection(primary="mean_average_precision"))


def rankings(noise: float) -> NDArray[np.float32]:
    """Probabilities that rank the images the worse the more noise there is."""
    random = np.random.default_rng(1).random(TRUTH.shape)
    return ((1 - noise) * TRUTH + noise * random).astype(np.float32)


def ranked(noise: float) -> Scored:
    """The record of an ensemble whose label sets are as bad as any, whatever its probabilities."""
    return dataclasses.replace(scored(BAD), probability={"blend": rankings(noise)})


def test_a_version_is_compared_by_its_own_metric(tracker: Tracker) -> None:
    found, logged = two(tracker, ranked(0.9), ranked(0.6), RANKING)
    expected = bootstrap.paired(RANKING, TRUTH, rankings(0.6), rankings(0.9))
    assert expected.low > 0
    assert (found.champion, champion(tracker, "m")) == (True, 2)
    assert logged["promotion_difference"] == expected.score
    assert f"({expected.score:+.4f} mean average precision, 95 % interval {expected.low:+.4f}" in found.sentence


def test_a_worse_ranking_does_not(tracker: Tracker) -> None:
    found, _ = two(tracker, ranked(0.6), ranked(0.9), RANKING)
    assert found.sentence.startswith("v1 stays champion: this one is worse (-")
    assert champion(tracker, "m") == 1


def test_label_sets_alone_tell_nothing_of_rankings_but_all_of_f(tracker: Tracker) -> None:
    found, logged = two(tracker, scored(BAD), ranked(0.6), RANKING)
    assert "holds no rankings of the blend, by which mean average precision is scored" in found.sentence
    assert (champion(tracker, "m"), logged) == (1, {})
    compared = promotion.compare_versions(tracker, "m", 2, 1, F1)
    assert compared.difference == (0, 0, 0)
