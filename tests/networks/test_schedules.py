"""Learning rates, best epoch and early stopping from the history alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstack.networks.schedules import best_epoch, learning_rate, lowered, stopped
from labelstack.params.models import ScheduleSection


def rates(schedule: ScheduleSection, positions, epochs=10, history=()):
    return [learning_rate(schedule, 0.1, epochs, position, list(history)) for position in positions]


def f1s(*values: float) -> list[dict[str, float]]:
    return [{"loss": 1.0, "holdout_samples_f1": value} for value in values]


def test_constant_with_warmup():
    schedule = ScheduleSection(kind="constant", warmup_epochs=2)
    assert rates(schedule, [0.5, 1, 2, 9]) == pytest.approx([0.025, 0.05, 0.1, 0.1])


def test_cosine():
    schedule = ScheduleSection(kind="cosine", minimum=0.1, warmup_epochs=2)
    assert rates(schedule, [2, 6, 10]) == pytest.approx([0.1, 0.055, 0.01])
    assert rates(ScheduleSection(kind="cosine", minimum=0), [2.5]) == pytest.approx(
        [0.05 * (1 + math.cos(math.pi / 4))]
    )


def test_warm_restarts():
    schedule = ScheduleSection(kind="warm_restarts", restart_epochs=4, minimum=0)
    assert rates(schedule, [0, 2, 4, 6, 8]) == pytest.approx([0.1, 0.05, 0.1, 0.05, 0.1])
    assert rates(schedule, [3.999])[0] < 1e-6


def test_plateau():
    schedule = ScheduleSection(kind="plateau", factor=0.5, patience=2, minimum=0.2)
    assert rates(schedule, [0]) == [0.1]
    assert rates(schedule, [4], history=f1s(0.1, 0.3, 0.2, 0.25)) == pytest.approx([0.05])
    assert rates(schedule, [4], history=f1s(0.1, 0.3, 0.2, 0.31)) == [0.1]
    assert rates(schedule, [9], history=f1s(*[0.3] * 9)) == pytest.approx([0.02])
    losses = [{"loss": value} for value in (1.0, 0.9, 0.95, 0.9)]
    assert rates(schedule, [4], history=losses) == pytest.approx([0.05])


@given(
    st.sampled_from(["constant", "cosine", "warm_restarts", "plateau"]),
    st.integers(0, 5),
    st.floats(0, 1),
    st.floats(0.01, 20, exclude_max=True),
    st.lists(st.floats(0, 1), max_size=12),
)
def test_rate_stays_within_bounds(kind, warmup, minimum, position, scores):
    schedule = ScheduleSection(kind=kind, warmup_epochs=warmup, minimum=minimum, restart_epochs=3)
    rate = learning_rate(schedule, 0.1, 20, position, f1s(*scores))
    assert 0 < rate <= 0.1 * (1 + 1e-9) or (minimum == 0 and rate >= 0)
    if position >= warmup:
        assert rate >= 0.1 * minimum * (1 - 1e-9)


def test_best_epoch():
    assert best_epoch([]) == 0
    assert best_epoch(f1s(0.1, 0.5, 0.5, 0.4)) == 2
    assert best_epoch([{"loss": 1.0}, {"loss": 2.0}]) == 2


@pytest.mark.parametrize("column", ["holdout_f1", "holdout_macro_f2", "holdout_micro_f0.5", "holdout_samples_f1e-05"])
def test_epochs_are_judged_by_the_metric_that_was_measured(column):
    history = [{"loss": 0.1, "holdout_loss": 0.1, column: value, "holdout_threshold": 0.9} for value in (0.2, 0.4, 0.3)]
    assert best_epoch(history) == 2
    assert stopped(history, 1)
    assert rates(ScheduleSection(kind="plateau", factor=0.5, patience=1, minimum=0), [3], history=history) == [0.05]


def test_stopped():
    assert not stopped([], 1)
    assert not stopped(f1s(0.5, 0.4), 2)
    assert stopped(f1s(0.5, 0.4, 0.5), 2)
    assert not stopped(f1s(0.5, 0.4, 0.3), None)
    assert not stopped([{"loss": 1.0}] * 9, 1)


def test_one_cycle_rises_and_falls_along_cosines():
    """As fastai's fit_one_cycle with pct_start 0.25, div 25, div_final 1e5: quarter, half and end of both cosines."""
    schedule = ScheduleSection(kind="one_cycle")
    found = [learning_rate(schedule, 2.0, 8, position, []) for position in (0, 1, 2, 5, 8)]
    assert found == pytest.approx([2 / 25, (2 / 25 + 2) / 2, 2, (2 + 2e-5) / 2, 2e-5])
    other = ScheduleSection(kind="one_cycle", rise=0.5, start_divisor=10, end_divisor=100)
    found = [learning_rate(other, 1.0, 4, position, []) for position in (0, 2, 4)]
    assert found == pytest.approx([0.1, 1, 0.01])


def test_plateau_says_when_it_lowers_the_rate_and_not_at_the_minimum():
    schedule = ScheduleSection(kind="plateau", patience=1, factor=0.5, minimum=0.5)
    history = [{"loss": 1.0, "holdout_samples_f1": score} for score in (0.5, 0.4, 0.3)]
    assert [lowered(schedule, history[:n]) for n in range(4)] == [False, False, True, False]
    assert not lowered(ScheduleSection(kind="constant"), history)


def test_triangular_is_ceshines_rate_along_straight_lines():
    """lr = base · (1 + 99 u) / 100; u rises from 0 to 1 over the first 1 / (ratio + 1) of the steps, then falls."""
    ratio, base, epochs = 4, 5e-4, 10
    schedule = ScheduleSection(kind="triangular", rise=1 / (ratio + 1), start_divisor=100, end_divisor=100)
    for position in (0, 0.5, 1, 2, 3, 7.5, 10):
        done = position / epochs
        u = done * (ratio + 1) if done < 1 / (ratio + 1) else (1 - done) / (1 - 1 / (ratio + 1))
        assert learning_rate(schedule, base, epochs, position, []) == pytest.approx(base * (1 + 99 * u) / 100)
