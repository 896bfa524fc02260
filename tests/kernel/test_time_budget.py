"""What is left out where time is short, on a clock that only the work moves."""

from __future__ import annotations

import numpy as np
import pytest

from labelstack.kernel.time_budget import Net, Step, predict_within

A, B, C = ("a", "0"), ("b", "0"), ("b", "1")
STEPS = [Step([A, B, C], False), Step([A, B, C], True), Step([B, C], True), Step([C], True)]
VIEWS = {A: 2, B: 2, C: 2}
SHARDS = 10


class Work:
    """Seconds that a shard takes with all views, for each network; ``load`` when another network has its turn."""

    def __init__(self, seconds: dict[Net, float], load: float = 0, slower: float = 1) -> None:
        self.seconds, self.load, self.slower = seconds, load, slower
        self.time, self.last, self.done = 0.0, ("", ""), list[tuple[int, Net, int]]()

    def run(self, step: int, net: Net, shard: int) -> None:
        if net != self.last:
            self.time += self.load
        took = self.seconds[net] / (VIEWS[net] if STEPS[step].first_view else 1)
        self.time += took * (self.slower if len(self.done) > 3 else 1)
        self.last = net
        self.done.append((step, net, shard))

    def within(self, limit: float, before: frozenset[tuple[Net, int]] = frozenset()) -> int:
        def kept(step: int, net: Net, shard: int) -> bool:
            return not STEPS[step].first_view and (net, shard) in before

        return predict_within(limit, STEPS, VIEWS, SHARDS, kept, self.run, lambda: self.time)

    def whole(self, step: int) -> bool:
        first = STEPS[step].first_view
        there = {(net, shard) for place, net, shard in self.done if STEPS[place].first_view == first}
        return there >= {(net, shard) for net in STEPS[step].networks for shard in range(SHARDS)}


def test_with_time_enough_nothing_is_left_out_and_nothing_is_done_twice() -> None:
    work = Work(dict.fromkeys(VIEWS, 1.0))
    assert work.within(100) == 0  # 30 seconds of work
    assert sorted(work.done) == sorted((0, net, shard) for net in VIEWS for shard in range(SHARDS))


@pytest.mark.parametrize(("limit", "step"), [(36, 0), (30, 1), (20, 1), (14, 2), (10, 3), (0.1, 3)])
def test_the_largest_blend_that_fits_is_taken(limit: float, step: int) -> None:
    work = Work(dict.fromkeys(VIEWS, 1.0))  # 30 s, then 15, 10, 5, and what was measured before
    assert work.within(limit) == step
    assert work.whole(step)
    assert work.time <= limit or limit < 7


def test_networks_that_stay_longest_run_first() -> None:
    work = Work(dict.fromkeys(VIEWS, 1.0))
    work.within(100)
    assert [net for _, net, shard in work.done if shard == 0] == [C, B, A]


def test_what_slows_down_on_the_way_drops_more() -> None:
    work = Work(dict.fromkeys(VIEWS, 1.0), slower=2.0)
    step = work.within(45)
    assert step > 0
    assert work.whole(step)
    assert work.time <= 45
    assert len(set(work.done)) == len(work.done)


@pytest.mark.parametrize("seed", range(20))
def test_the_limit_holds_where_the_least_blend_can_hold_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    work = Work({net: float(random.uniform(0.2, 3)) for net in VIEWS}, load=float(random.uniform(0, 1)))
    least = SHARDS * work.seconds[C] / 2
    measured = sum(work.seconds.values()) + 4 * work.load
    limit = 1.5 * (least + measured) + float(random.uniform(0, 60))
    step = work.within(limit)
    assert work.whole(step)
    assert work.time <= limit


def test_shards_of_before_count_for_nothing() -> None:
    work = Work(dict.fromkeys(VIEWS, 1.0))
    before = frozenset((net, shard) for net in (B, C) for shard in range(SHARDS))
    assert work.within(14, before) == 0
    assert work.time == pytest.approx(SHARDS)
    assert {net for _, net, _ in work.done} == {A}
