"""Losses out of params: with options, mixed, or one after another."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from labelstack.params.loss_names import LOSSES
from labelstack.params.losses import LossSection, MixSection, PhasesSection

if TYPE_CHECKING:
    from labelstack.networks.tasks import LossFunction


def loss_function(loss: str | LossSection) -> LossFunction:
    """The function of a loss that has no phases."""
    if isinstance(loss, MixSection):
        return _mixed([(loss_function(term.loss), term.weight) for term in loss.of])
    found: LossFunction = LOSSES.load(loss if isinstance(loss, str) else loss.kind)
    options = {} if isinstance(loss, str) else loss.model_dump(exclude={"kind"})
    return partial(found, **options) if options else found


def phases_of(loss: str | LossSection) -> list[tuple[int, LossFunction]]:
    """Epoch, from 0, that each loss begins with, and its function; a loss without phases begins with 0."""
    if not isinstance(loss, PhasesSection):
        return [(0, loss_function(loss))]
    return [(begin, loss_function(phase.loss)) for begin, phase in zip(loss.begins, loss.of, strict=True)]


def _mixed(terms: list[tuple[LossFunction, float]]) -> LossFunction:
    def mixed(targets: Any, logits: Any, known: Any, frequency: Any) -> Any:
        return sum(weight * function(targets, logits, known, frequency) for function, weight in terms)

    return mixed
