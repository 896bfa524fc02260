"""Which of an ensemble's blends fits into a limit of time: all of it, its first views, or fewer models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Net = tuple[str, str]  # a model and the fold of one of its networks

# What networks are not measured to take: their slower moments, stackers, blending and writing.
_SLOWER = 1.1
_KEPT_BACK = 0.05


@dataclass(frozen=True)
class Step:
    """A blend that may be fallen back on.

    Attributes
    ----------
    networks : that are to run for it
    first_view : of its test-time views each network is shown the first alone
    """

    networks: Sequence[Net]
    first_view: bool


def predict_within(
    limit: float,
    steps: Sequence[Step],
    views: Mapping[Net, int],
    shards: int,
    kept: Callable[[int, Net, int], bool],
    run: Callable[[int, Net, int], None],
    clock: Callable[[], float],
) -> int:
    """Predict for the largest blend that can be finished in time; its place in ``steps``.

    Every network first predicts one shard, which says how long it takes. As soon as what is left of a blend no longer
    fits, the next one that does is taken, or the last; there is no way back. Networks that stay longest run first.

    Parameters
    ----------
    limit : seconds on the clock at which all must be done
    steps : from all to least
    views : of each network, how many test-time views it has
    shards : number of them
    kept : whether a network predicted a shard (its number) for a step (its place) in a run of before
    run : has a network predict it
    clock : seconds since the beginning
    """
    now, done = 0, set[tuple[bool, Net, int]]()
    last, seconds = dict[Net, float](), dict[Net, float]()  # of a shard, with all views
    lasts = {net: place for place, step in enumerate(steps) for net in step.networks}
    order = sorted(lasts, key=lambda net: -lasts[net])

    for place in {step.first_view: place for place, step in reversed(list(enumerate(steps)))}.values():
        step = steps[place]
        done |= {(step.first_view, net, n) for net in step.networks for n in range(shards) if kept(place, net, n)}

    def todo(place: int, most: int) -> list[tuple[Net, int]]:
        there, first = set(steps[place].networks), steps[place].first_view
        return [(net, n) for net in order if net in there for n in range(most) if (first, net, n) not in done]

    def fits(place: int) -> bool:
        usual = sum(seconds.values()) / max(1, len(seconds))
        share = {net: 1 / views[net] if steps[place].first_view else 1 for net in order}
        left = sum(seconds.get(net, usual) * share[net] for net, _ in todo(place, shards))
        return clock() + _SLOWER * left <= (1 - _KEPT_BACK) * limit

    for most in (1, shards):
        while waiting := todo(now, most):
            net, number = waiting[0]
            begun = clock()
            run(now, net, number)
            took = (clock() - begun) * (views[net] if steps[now].first_view else 1)
            # The less of two: the first shard of a turn takes longer, as the network is loaded for it.
            last[net], seconds[net] = took, min(took, last.get(net, took))
            done.add((steps[now].first_view, net, number))
            while now < len(steps) - 1 and not fits(now):
                now += 1
    return now
