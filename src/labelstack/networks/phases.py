"""Which epochs train what, and which part of a network that is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from labelstack.networks.depth import flat_layers, layer_groups
from labelstack.networks.heads import head_layers, logits_model, pooled_model
from labelstack.params.fine_tuning import ALL, HEAD, BatchNorm, last_groups
from labelstack.params.models import ModelSection
from labelstack.params.schedule import ScheduleSection
from labelstack.support.errors import UserError


@dataclass(frozen=True)
class Phase:
    """Epochs in which the same layers learn.

    Attributes
    ----------
    number : from 1
    begin : epoch, from 0, that it begins with
    epochs : how many
    train : ``head``, ``last_<k>`` or ``all``
    learning_rate, schedule, batch_norm : the phase's own, or the model's
    kept : whether the backbone's outputs are computed once
    """

    number: int
    begin: int
    epochs: int
    train: str
    learning_rate: float
    schedule: ScheduleSection
    batch_norm: BatchNorm
    kept: bool = False


def training_phases(params: ModelSection) -> list[Phase]:
    """The phases of a training in order; one in which all layers learn where params have none."""
    if not params.phases:
        return [Phase(1, 0, params.epochs, ALL, params.learning_rate, params.schedule, params.batch_norm)]
    found: list[Phase] = []
    kept = params.features.variants > 0
    for number, phase in enumerate(params.phases, start=1):
        kept = kept and phase.train == HEAD
        found.append(
            Phase(
                number,
                found[-1].begin + found[-1].epochs if found else 0,
                phase.epochs,
                phase.train,
                phase.learning_rate or params.learning_rate,
                phase.schedule or params.schedule,
                phase.batch_norm or params.batch_norm,
                kept,
            )
        )
    return found


def phase_of(phases: Sequence[Phase], epoch: int) -> Phase:
    """The phase of an epoch, from 0; of one behind the end the last."""
    return next(phase for phase in reversed(phases) if phase.begin <= epoch or phase.number == 1)


@dataclass(frozen=True)
class Way:
    """How a batch goes through a network while it learns.

    Attributes
    ----------
    forward : callable (inputs) → logits [b, outputs]
    inputs : what it takes
    trained : variables that the optimizer changes
    moving : variables that may change
    factors : of the learning rate, one for each that is trained; None: 1 for all
    targets : what the loss takes beside answers; None: float32 [b, outputs]
    """

    forward: Callable[[Any], Any]
    inputs: tf.TensorSpec
    trained: list[keras.Variable]
    moving: list[keras.Variable]
    factors: tuple[float, ...] | None = None
    targets: tf.TensorSpec | None = None


class Ways:
    """The ways through a network, of which parts learn.

    A phase's batch normalization stands in the layers' own ``trainable`` while it lasts: ``whole`` puts that back.

    Parameters
    ----------
    model : keras.Model
        From ``build_model``.
    rates : float or tuple
        ``params.group_rates``.
    """

    def __init__(self, model: keras.Model, rates: float | tuple[float, ...] = 1.0) -> None:
        self.model, self._rates = model, rates
        self._all = list(model.trainable_variables)
        backbone = model.get_layer("backbone")
        self._norms = [
            layer
            for layer in flat_layers(backbone)
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        ]
        self._scales = {id(v) for layer in self._norms for v in layer.trainable_variables}

    def way(self, phase: Phase) -> Way:
        """How a phase goes through the network; raise ``UserError`` where it has not so many groups."""
        self.whole()
        trained = self._trained(phase)
        factors = self._factors(trained)
        if phase.batch_norm != "moving":
            for layer in self._norms:
                layer.trainable = False
        images = tf.TensorSpec([None, *self.model.inputs[0].shape[1:]], tf.uint8)
        head = self._head()
        if phase.kept:
            pooled = pooled_model(self.model).outputs[0].shape
            return Way(head, tf.TensorSpec([None, *pooled[1:]], tf.float32), trained, self._of_head(), factors)
        if phase.train == HEAD and phase.batch_norm != "moving":
            frozen = pooled_model(self.model)
            return Way(lambda x: head(frozen(x, training=False)), images, trained, self._of_head(), factors)
        network = logits_model(self.model)
        return Way(lambda x: network(x, training=True), images, trained, self.model.weights, factors)

    def whole(self) -> None:
        """All layers as they were."""
        for layer in self._norms:
            layer.trainable = True

    def answers(self, way: Way) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """A function from what the head of a way takes to answers float32 [b, outputs], in inference mode."""
        layers = [*head_layers(self.model), self.model.get_layer("probability")]
        chain = tf.function(
            lambda x: functools.reduce(lambda done, layer: layer(done), layers, x),
            input_signature=[way.inputs],
            autograph=False,
        )
        return lambda features: np.asarray(chain(tf.constant(features)), dtype=np.float32)

    def _trained(self, phase: Phase) -> list[keras.Variable]:
        count = last_groups(phase.train)
        chosen = self._all
        if count is not None:
            wanted = {id(v) for group in self._groups(count) for layer in group for v in layer.weights}
            chosen = [v for v in self._all if id(v) in wanted]
        if phase.batch_norm == "fixed":
            chosen = [v for v in chosen if id(v) not in self._scales]
        return chosen

    def _factors(self, trained: list[keras.Variable]) -> tuple[float, ...] | None:
        """The factor of each variable's group; what is in none has that of the first."""
        if self._rates == 1:
            return None
        groups = [*layer_groups(self.model.get_layer("backbone")), head_layers(self.model)]
        if isinstance(self._rates, tuple):
            if len(self._rates) != len(groups):
                raise UserError(
                    f"group_rates: names {len(self._rates)} factors, and this network has {len(groups)} groups of "
                    "layers, head included: name one for each, from the first to the head, or a single factor"
                )
            rates = self._rates
        else:
            rates = tuple(self._rates**distance for distance in reversed(range(len(groups))))
        found = {id(v): r for group, r in zip(groups, rates, strict=True) for layer in group for v in layer.weights}
        return tuple(found.get(id(variable), rates[0]) for variable in trained)

    def _groups(self, count: int) -> list[list[keras.layers.Layer]]:
        """The last groups of layers; the head is the last."""
        own = layer_groups(self.model.get_layer("backbone")) if count > 1 else []
        if count > len(own) + 1:
            raise UserError(
                f"phases: last_{count} asks for {count} groups of layers, and this network has {len(own) + 1}, "
                f"head included: name at most last_{len(own) + 1}, or all"
            )
        return [*own[len(own) - count + 1 :], head_layers(self.model)]

    def _of_head(self) -> list[keras.Variable]:
        return [weight for layer in head_layers(self.model) for weight in layer.weights]

    def _head(self) -> Callable[[Any], Any]:
        layers = head_layers(self.model)
        learning = ["training" in inspect.signature(layer.call).parameters for layer in layers]

        def forward(x: Any) -> Any:
            for layer, knows in zip(layers, learning, strict=True):
                x = layer(x, training=True) if knows else layer(x)
            return x

        return forward
