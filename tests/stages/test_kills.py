"""Real `dvc repro`, killed -9 at seeded moments from its first second on; benchmarks/kills.py does more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from killing import Undisturbed, delays, ensemble_digest, killed_round, submission_digest
from tiny import Workspace


def test_kills_are_spread_over_the_whole_length_and_the_same_each_time() -> None:
    whole = Undisturbed("", "", seconds=100, start=4)
    every = [delays(7, number, 5, whole) for number in range(200)]
    assert every == [delays(7, number, 5, whole) for number in range(200)]
    assert {len(one) for one in every} == {5}
    assert all(second >= 0 for one in every for second in one)
    firsts = sorted(one[0] for one in every)
    assert firsts[0] < 4  # before the first stage
    ends = sorted(sum(one) - 5 * 2 for one in every)  # less what starting anew took in the mean
    assert ends[0] < 60
    assert 80 < ends[100] < 95
    assert ends[-1] < 120


@pytest.mark.slow
def test_after_eight_kills_the_results_are_those_of_an_undisturbed_run(finished: Workspace, tmp_path: Path) -> None:
    expected = Undisturbed(submission_digest(finished), ensemble_digest(finished), seconds=70, start=6)
    for number in range(2):
        result = killed_round(tmp_path / str(number), seed=0, number=number, kills=4, expected=expected)
        assert (result.problem, result.versions) == ("", 1)
        assert result.kills
