"""AdamW whose momentum is told before each step, each variable at its own rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from labelstack.networks.group_rates import GroupRates
from labelstack.networks.schedules import one_cycle
from labelstack.params.schedule import ScheduleSection

_NO_DECAY = ["bias", "gamma", "beta"]


class CycledAdamW(GroupRates, keras.optimizers.AdamW):  # type: ignore[misc]
    """fastai's Adam: β₂ = 0.99, ε = 1e-8, weight decay decoupled (Loshchilov & Hutter 2019).

    As in PyTorch, the correction of a step's momentum is that of its own β₁, whatever it was before.

    Parameters
    ----------
    factors : one for each variable that is trained
    decay_all : whether biases and normalization decay too, as fastai has it
    """

    def __init__(self, factors: Sequence[float], weight_decay: float, *, decay_all: bool = False) -> None:
        super().__init__(weight_decay=weight_decay, beta_2=0.99, epsilon=1e-8)
        self.factors = tuple(factors)
        self.beta_1: Any = tf.Variable(0.9, trainable=False, dtype=tf.float32)
        if not decay_all:
            self.exclude_from_weight_decay(var_names=_NO_DECAY)

    def set_momentum(self, value: float) -> None:
        """Of the next step."""
        self.beta_1.assign(value)


def momentum_at(schedule: ScheduleSection, high_low: tuple[float, float], done: float) -> float:
    """β₁ at a share 0 … 1 of a cycle: where the learning rate rises it falls, and back (Smith 2018); else the high."""
    high, low = high_low
    return one_cycle(schedule.rise, done, (high, low, high)) if schedule.kind == "one_cycle" else high
