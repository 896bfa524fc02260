"""Optimizers whose learning rate is another one for each variable."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import keras


class GroupRates:
    """Mixed into an optimizer of Keras, which knows one learning rate: each variable's is that times its factor.

    Not the gradient is scaled, which Adam would divide out again, but the update. Decoupled weight decay follows the
    rate, as in the groups of PyTorch's AdamW. A factor of 1 changes no bit.

    Attributes
    ----------
    factors : one for each variable, in the order in which the optimizer is built on them
    """

    factors: tuple[float, ...] = ()
    weight_decay: float | None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """As the optimizer's, at the variable's own rate."""
        factor = self._factor(variable)
        rate = learning_rate if factor == 1 else learning_rate * factor
        super().update_step(gradient, variable, rate)  # type: ignore[misc]

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        whole = self.weight_decay
        if whole is None:
            return
        for factor, group in groupby(variables, key=self._factor):
            self.weight_decay = whole * factor
            super()._apply_weight_decay(list(group))  # type: ignore[misc]
        self.weight_decay = whole

    def _factor(self, variable: Any) -> float:
        index: int = self._get_variable_index(variable)  # type: ignore[attr-defined]
        return self.factors[index]


def with_group_rates(optimizer: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    """The optimizer's class with ``GroupRates`` mixed in."""
    return type(f"GroupRates{optimizer.__name__}", (GroupRates, optimizer), {})
