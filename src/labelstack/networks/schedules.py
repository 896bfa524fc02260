"""Learning rate and early stopping as pure functions of the history: a resumed run decides as an unbroken one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from labelstack.params.schedule import ScheduleSection
from labelstack.scoring.metric import found_holdout_column

History = Sequence[Mapping[str, float]]


def learning_rate(schedule: ScheduleSection, base: float, epochs: int, position: float, history: History) -> float:
    """Learning rate at a place in training.

    Not ``keras.optimizers.schedules``: they know neither epochs nor scores, and their float32 arithmetic gives another
    last bit in two of three steps, so other weights.

    Parameters
    ----------
    schedule : ScheduleSection
        ``minimum`` is the lowest rate as a share of ``base``. ``warm_restarts`` is SGDR (Loshchilov & Hutter 2017)
        with a constant period; ``plateau`` multiplies by ``factor`` after ``patience`` epochs without a better score;
        ``one_cycle`` (Smith 2018, as fastai has it) goes along cosines from ``base / start_divisor`` up to ``base``
        during the share ``rise`` of all epochs, then down to ``base / end_divisor``; ``triangular`` (Howard & Ruder
        2018) along straight lines.
    base : float
        Highest rate.
    epochs : int
        Length of the whole training.
    position : float
        Epochs done, fractions included: 2.5 is the middle of the third epoch.
    history : sequence of dict
        Records of the finished epochs; only ``plateau`` looks at them.
    """
    if schedule.kind in ("one_cycle", "triangular"):
        ends = 1 / schedule.start_divisor, 1.0, 1 / schedule.end_divisor
        return base * one_cycle(schedule.rise, position / epochs, ends, straight=schedule.kind == "triangular")
    warmup = schedule.warmup_epochs
    if position < warmup:
        return base * position / warmup
    if schedule.kind == "plateau":
        return base * _plateau_share(schedule, history)
    if schedule.kind == "cosine":
        done = (position - warmup) / max(epochs - warmup, 1)
    elif schedule.kind == "warm_restarts":
        done = (position - warmup) / schedule.restart_epochs % 1
    else:
        return base
    return base * (schedule.minimum + (1 - schedule.minimum) * 0.5 * (1 + math.cos(math.pi * min(done, 1))))


def one_cycle(rise: float, done: float, ends: tuple[float, float, float], *, straight: bool = False) -> float:
    """From the first end to the second along a cosine during a share ``rise``, then to the third; ``done`` is 0 … 1.

    ``straight``: along lines in the place of cosines.
    """
    begin, top, end = ends
    if done < rise:
        stop, part = top, done / rise
    else:
        begin, stop, part = top, end, min((done - rise) / (1 - rise), 1)
    return begin + (stop - begin) * (part if straight else 0.5 * (1 - math.cos(math.pi * part)))


def lowered(schedule: ScheduleSection, history: History) -> bool:
    """Whether ``plateau`` lowers the rate with the epoch that comes."""
    if schedule.kind != "plateau" or not history:
        return False
    return _plateau_share(schedule, history) < _plateau_share(schedule, history[:-1])


def score(record: Mapping[str, float]) -> float:
    """What an epoch is judged by, higher is better: F-beta on the holdout, without one the negative training loss."""
    column = found_holdout_column(record)
    return -record["loss"] if column is None else record[column]


def best_epoch(history: History) -> int:
    """Number (from 1) of the first epoch with the best score; without a holdout the last epoch; 0 when empty."""
    if not history or found_holdout_column(history[-1]) is None:
        return len(history)
    return max(range(len(history)), key=lambda i: (score(history[i]), -i)) + 1


def stopped(history: History, patience: int | None, settled: int = 0) -> bool:
    """Whether ``patience`` epochs have passed since the best one; never without a holdout or without patience.

    Of a loss in phases those that pass before the last one begins, after ``settled`` epochs, do not count.
    """
    return patience is not None and len(history) - max(best_epoch(history), settled) >= patience


def _plateau_share(schedule: ScheduleSection, history: History) -> float:
    share, best, waited = 1.0, -math.inf, 0
    for record in history:
        if score(record) > best:
            best, waited = score(record), 0
        else:
            waited += 1
        if waited >= schedule.patience:
            share, waited = share * schedule.factor, 0
    return max(share, schedule.minimum)
