"""FashionAI's scores: by hand, against a plain loop over the official text, against scikit-learn, and resampled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score

from labelstack.scoring.attribute_precision import (
    BASIC_PRECISION,
    MAP,
    MAP_OFFICIAL,
    MAYBE,
    NO,
    YES,
    AttributePrecision,
    letters_of,
    paired_precision,
)

GROUP = ["a", "a", "a", "b", "b"]
CODE = {"n": NO, "m": MAYBE, "y": YES}


def looped(truth: NDArray[Any], P: NDArray[Any], known: NDArray[Any], group: list[str]) -> dict[str, float]:
    """The official text, word by word: a threshold after the other."""
    official, dropped, basic = [], [], []
    for name in dict.fromkeys(group):
        columns = [place for place, of in enumerate(group) if of == name]
        pairs = []
        for row in range(len(P)):
            if known[row] == name:
                best = max(columns, key=lambda column: P[row, column])  # the first of equal ones
                pairs.append((P[row, best], truth[row, best]))
        if not pairs:
            continue

        def precisions(pairs: list[tuple[float, int]]) -> list[float]:
            found = []
            for threshold, _ in pairs:
                block = pred = correct = 0
                for probability, letter in pairs:
                    if probability < threshold:
                        block += 1
                    elif letter == YES:
                        pred, correct = pred + 1, correct + 1
                    elif letter == NO:
                        pred += 1
                assert 0 <= block < len(pairs)
                if pred:
                    found.append(correct / pred)
            return found

        told = [pair for pair in pairs if pair[1] != MAYBE]
        if told:
            official.append(np.mean(precisions(pairs)))
            dropped.append(np.mean(precisions(told)))
            basic.append(np.mean([letter == YES for _, letter in told]))
    return {name: float(np.mean(v)) if v else np.nan for name, v in zip("odb", (official, dropped, basic), strict=True)}


def one_group(probability: list[float], letters: str) -> AttributePrecision:
    """Images of a group of two labels, the first of which is the most probable and has these letters."""
    P = np.column_stack([probability, np.zeros(len(probability))])
    truth = np.array([[CODE[letter], NO] for letter in letters])
    return AttributePrecision(truth, P, ["a"] * len(letters), ["a", "a"])


@pytest.mark.parametrize(
    ("probability", "letters", "dropped", "official"),
    [
        ([0.9, 0.8, 0.7], "yny", (1 + 1 / 2 + 2 / 3) / 3, (1 + 1 / 2 + 2 / 3) / 3),
        ([0.7, 0.9, 0.8], "yyn", (1 + 1 / 2 + 2 / 3) / 3, (1 + 1 / 2 + 2 / 3) / 3),
        ([0.9, 0.8, 0.7], "ymn", (1 + 1 / 2) / 2, (1 + 1 + 1 / 2) / 3),
        ([0.9, 0.8, 0.7], "myn", (1 + 1 / 2) / 2, (1 + 1 / 2) / 2),  # above the first y nothing is predicted
        ([0.9, 0.8, 0.7], "nnn", 0, 0),
        ([0.8, 0.8, 0.7], "yny", (1 / 2 + 1 / 2 + 2 / 3) / 3, (1 / 2 + 1 / 2 + 2 / 3) / 3),
        ([0.8, 0.8, 0.7], "myn", (1 + 1 / 2) / 2, (1 + 1 + 1 / 2) / 3),
        ([0.5, 0.5, 0.5, 0.5], "yynm", 2 / 3, 2 / 3),
        ([0.5], "y", 1, 1),
    ],
)
def test_by_hand(probability: list[float], letters: str, dropped: float, official: float) -> None:
    scored = one_group(probability, letters)
    assert scored.score(MAP) == pytest.approx(dropped)
    assert scored.score(MAP_OFFICIAL) == pytest.approx(official)
    told = [letter for letter in letters if letter != "m"]
    assert scored.score(BASIC_PRECISION) == pytest.approx(told.count("y") / len(told))


def test_groups_count_alike_and_labels_of_others_count_nothing() -> None:
    P = np.array([[0.6, 0.3, 0.1, 0.9, 0.9], [0.2, 0.7, 0.1, 1, 1], [0.5, 0.2, 0.3, 1, 1], [9, 9, 9, 0.6, 0.4]])
    truth = np.array([[YES, 0, 0, 0, 0], [YES, 0, 0, 0, 0], [YES, 0, 0, 0, 0], [0, 0, 0, YES, 0]])
    scored = AttributePrecision(truth, P, ["a", "a", "a", "b"], GROUP)
    assert scored.groups == ["a", "b"]
    assert scored.of_groups(BASIC_PRECISION) == pytest.approx([2 / 3, 1])
    assert scored.score(BASIC_PRECISION) == pytest.approx(5 / 6)  # over all images it would be 3/4
    assert scored.score(MAP) == pytest.approx(((0 + 1 / 2 + 2 / 3) / 3 + 1) / 2)


@st.composite
def rows(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rows of one group each with few different probabilities, so that ties and values that may be are common."""
    n = draw(st.integers(1, 12))
    few = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9])
    P = draw(st.lists(st.lists(few, min_size=5, max_size=5), min_size=n, max_size=n))
    truth = draw(st.lists(st.lists(st.sampled_from([NO, MAYBE, YES]), min_size=5, max_size=5), min_size=n, max_size=n))
    known = draw(st.lists(st.sampled_from("ab"), min_size=n, max_size=n))
    return np.array(truth), np.array(P, np.float32), np.array(known)


@settings(max_examples=150, deadline=None)
@given(rows())
def test_it_is_the_plain_loop(drawn: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]) -> None:
    truth, P, known = drawn
    scored, plain = AttributePrecision(truth, P, known, GROUP), looped(truth, P, known, GROUP)
    for score, name in ((MAP_OFFICIAL, "o"), (MAP, "d"), (BASIC_PRECISION, "b")):
        assert scored.score(score) == pytest.approx(plain[name], abs=1e-6, nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(rows(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_any_rising_scale_change_nothing(
    drawn: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], random: Any
) -> None:
    truth, P, known = drawn
    place = np.array(random.sample(range(len(P)), len(P)))
    one = AttributePrecision(truth, P, known, GROUP)
    other = AttributePrecision(truth[place], np.exp(3 * P[place]), known[place], GROUP)
    for score in (MAP, MAP_OFFICIAL, BASIC_PRECISION):
        assert other.score(score) == pytest.approx(one.score(score), nan_ok=True)


def made(n: int = 400, seed: int = 0, skill: float = 1.5) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Truth, probabilities (with ties) and groups; values that may be beside the true one."""
    rng = np.random.default_rng(seed)
    known, truth = rng.choice(["a", "b"], n), np.zeros((n, 5), int)
    true = np.where(known == "a", rng.integers(0, 3, n), rng.integers(3, 5, n))
    truth[np.arange(n), true] = YES
    truth[(rng.random((n, 5)) < 0.2) & (truth == NO)] = MAYBE
    return truth, np.round(rng.random((n, 5)) + skill * (truth == YES) * rng.random((n, 5)), 2), known


def test_basic_precision_is_the_mean_of_accuracies() -> None:
    truth, P, known = made()
    truth[truth == MAYBE] = NO
    means = []
    for name, columns in (("a", [0, 1, 2]), ("b", [3, 4])):
        mine = np.ix_(known == name, columns)
        means.append(accuracy_score(truth[mine].argmax(1), P[mine].argmax(1)))
    assert AttributePrecision(truth, P, known, GROUP).score(BASIC_PRECISION) == pytest.approx(np.mean(means))


@pytest.mark.parametrize("score", [MAP, MAP_OFFICIAL, BASIC_PRECISION])
def test_a_resample_scores_as_its_images_written_out(score: Any) -> None:
    truth, P, known = made(60)
    scored = AttributePrecision(truth, P, known, GROUP)
    resampled = scored.resampled(score, draws=5, seed=4)
    expected = []
    for draw in range(5):
        rows = []
        for place, name in enumerate("ab"):
            mine = np.flatnonzero(known == name)
            picks = np.random.default_rng([4, place]).integers(0, len(mine), (5, len(mine)))
            rows += mine[picks[draw]].tolist()
        expected.append(AttributePrecision(truth[rows], P[rows], known[rows], GROUP).score(score))
    assert resampled == pytest.approx(expected, abs=1e-6)
    assert np.ptp(resampled) > 0


def test_intervals_hold_the_score_and_pairs_are_narrower() -> None:
    truth, P, known = made()
    one, other = (AttributePrecision(truth, values, known, GROUP) for values in (P, P + 0.01 * made(seed=0)[1]))
    found = one.interval(draws=300)
    assert found.low < found.score < found.high
    assert found == one.interval(draws=300)
    assert found.score == one.score()
    better = AttributePrecision(truth, P + 0.3 * (truth == YES), known, GROUP)
    gain = paired_precision(better, one, draws=300)
    assert gain.score == pytest.approx(better.score() - one.score())
    assert 0 < gain.low < gain.score < gain.high
    assert gain.high - gain.low < found.high - found.low
    assert paired_precision(one, one, draws=20) == (0, 0, 0)
    assert other.score() == pytest.approx(one.score())


def test_the_interval_is_that_of_the_sampling_distribution() -> None:
    """Of 200 samples of one distribution, their scores spread as the bootstrap of one of them says."""
    spread = np.std([AttributePrecision(*made(300, seed), GROUP).score() for seed in range(1, 201)])
    drawn = np.std(AttributePrecision(*made(300, 0), GROUP).resampled(draws=400))
    assert drawn == pytest.approx(spread, rel=0.25)


def test_a_group_without_a_score_is_left_out() -> None:
    truth, P = np.array([[MAYBE, NO, NO, NO, NO], [NO, NO, NO, YES, NO]]), np.array([[1, 0, 0, 0, 0], [0, 0, 0, 1, 0]])
    scored = AttributePrecision(truth, P, ["a", "b"], GROUP)
    assert np.isnan(scored.of_groups()[0])
    assert scored.score() == scored.score(MAP_OFFICIAL) == scored.score(BASIC_PRECISION) == 1


def test_letters_of_labels() -> None:
    assert letters_of([[1, 0, 0]], [[0, 1, 0]]).tolist() == [[YES, MAYBE, NO]]


def test_what_does_not_fit_is_named() -> None:
    truth, P, known = made(6)
    for arguments, told in (
        ((truth[:, :4], P, known, GROUP), r"truth has shape \(6, 4\), P has \(6, 5\)"),
        ((truth, P, known[:3], GROUP), r"known has shape \(3,\) and group \(5,\)"),
        ((truth, P, ["c", *known[1:]], GROUP), "known: group has no label of c"),
        ((truth, P * np.nan, known, GROUP), "P must be numbers without NaN"),
        ((truth + 7, P, known, GROUP), "truth must be 0, 1 or 2"),
        ((truth[:0], P[:0], known[:0], GROUP), "P has no rows"),
    ):
        with pytest.raises(ValueError, match=told):
            AttributePrecision(*arguments)
    with pytest.raises(ValueError, match="draws must be at least 1"):
        AttributePrecision(truth, P, known, GROUP).interval(draws=0)
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        AttributePrecision(truth, P, known, GROUP).interval(level=1)
