"""One network being trained: its optimizer, compiled step, moving average and whole state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from labelstack.networks.group_rates import with_group_rates
from labelstack.networks.heads import logits_model
from labelstack.networks.phases import Phase, Way
from labelstack.networks.tasks import Loss
from labelstack.params.models import ModelSection
from labelstack.support.errors import UserError

_SUM = tf.VariableAggregation.SUM
_NO_DECAY = ["bias", "gamma", "beta"]


def make_optimizer(
    params: ModelSection,
    mixed_precision: bool | str,
    phase: Phase | None = None,
    factors: tuple[float, ...] | None = None,
) -> keras.optimizers.Optimizer:
    """Adam, AdamW or SGD (Nesterov momentum 0.9), of a phase with its own learning rate, of variables by their factors.

    Weight decay is decoupled for all three (Loshchilov & Hutter 2019) and leaves biases and normalization alone; in
    float16 the loss is scaled, which bfloat16 with float32's range does not need. ``clip_norm`` bounds the norm of all
    gradients together.
    """
    kind = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}[
        params.optimizer
    ]
    momentum = {"momentum": 0.9, "nesterov": True} if params.optimizer == "sgd" else {}
    # Replicas clip their shares, which are summed.
    clip = params.clip_norm and params.clip_norm / tf.distribute.get_strategy().num_replicas_in_sync
    optimizer = (kind if factors is None else with_group_rates(kind))(
        learning_rate=phase.learning_rate if phase else params.learning_rate,
        weight_decay=params.weight_decay or (0.0 if params.optimizer == "adamw" else None),
        global_clipnorm=clip,
        **momentum,
    )
    if factors is not None:
        optimizer.factors = factors
    optimizer.exclude_from_weight_decay(var_names=_NO_DECAY)
    return keras.optimizers.LossScaleOptimizer(optimizer) if mixed_precision is True else optimizer


class Learner:
    """A model with what training adds to it. Construct inside the scope of the distribution strategy.

    Parameters
    ----------
    model : keras.Model
        From ``build_model``.
    optimizer : keras.optimizers.Optimizer
    loss : callable
        Of the model's task.
    ema : float, optional
        Decay of an exponential moving average of all weights, normalization statistics included. In the first steps
        the decay is (1 + t) / (10 + t), so that the average does not remember the initial weights.
    masked : bool
        Whether targets may be NaN: not known.
    each : bool
        Whether to keep the losses of the rows of a step.
    way : Way, optional
        How a batch goes through the network, and what of it learns; default: images through all of it, and all.
    accumulate : int
        Batches whose gradients are put together for one step of the optimizer, as of one batch with all their rows.
    jit_compile : bool
        Whether XLA compiles the step, once for every size of batch; for one device.

    Attributes
    ----------
    row_losses : float32 [n], of the last step where ``each``
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: Loss,
        ema: float | None = None,
        *,
        masked: bool = False,
        each: bool = False,
        way: Way | None = None,
        accumulate: int = 1,
        jit_compile: bool = False,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self._way = way or _whole(model)
        self._loss, self._ema, self._masked, self._each = loss, ema, masked, each
        self._jit_compile = jit_compile
        self.row_losses = np.empty(0, np.float32)
        self._strategy = tf.distribute.get_strategy()
        # Built first: an optimizer that makes its variables inside the step has the step traced twice.
        optimizer.build(self._way.trained)
        self._average = [tf.Variable(w.value, trainable=False) for w in self._way.moving] if ema else []
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._accumulate, self._waiting, self._rows, self._rate = accumulate, 0, 0, 0.0
        self._gathered = []
        if accumulate > 1:
            on_read = {"synchronization": tf.VariableSynchronization.ON_READ, "aggregation": _SUM}
            self._gathered = [tf.Variable(tf.zeros(v.shape), trainable=False, **on_read) for v in self._way.trained]
            scalar = tf.TensorSpec([], tf.float32)
            self._take = tf.function(self._optimizer_step, autograph=False, input_signature=[scalar, scalar])
        self._clipped = bool(_inner(optimizer).global_clipnorm)
        self._compiled = self._compile()

    def learn_by(self, loss: Loss) -> None:
        """Take another loss from now on; the optimizer's state stays."""
        if loss is not self._loss:
            self._loss = loss
            self._compiled = self._compile()

    def step(self, images: NDArray[np.uint8], targets: NDArray[np.float32], learning_rate: float) -> Any:
        """One optimizer step on a batch, divided among the replicas; the mean loss as a scalar tensor.

        Under ``accumulate`` a step at the rate of the last of so many batches; ``finish`` takes what is left.
        """
        lacking = self._strategy.num_replicas_in_sync - len(images)
        if lacking > 0:  # normalization has no statistics of no images
            again = np.arange(lacking) % len(images)
            images, targets = np.concatenate([images, images[again]]), np.concatenate([targets, targets[again]])
        try:
            done = self._compiled(tf.constant(images), tf.constant(targets), tf.constant(learning_rate, tf.float32))
        except tf.errors.UnimplementedError as error:
            if not self._jit_compile:
                raise
            told = error.message.splitlines()[0]
            raise UserError(
                f"training.jit_compile: XLA does not compile this network ({told}); set it to false"
            ) from None
        if self._accumulate > 1:
            self._waiting, self._rows, self._rate = self._waiting + 1, self._rows + len(images), learning_rate
            if self._waiting == self._accumulate:
                self.finish()
        if not self._each:
            return done
        loss, losses = done
        self.row_losses = losses.numpy()[: len(images) - max(lacking, 0)]
        return loss

    def finish(self) -> None:
        """Step with the gradients of batches that wait for others, if any: an epoch is over."""
        if self._waiting:
            self._take(tf.constant(self._rate, tf.float32), tf.constant(self._rows, tf.float32))
            self._waiting, self._rows = 0, 0

    def reseed(self, seed: int, epoch: int) -> None:
        """Put every dropout into the state that belongs to (seed, epoch), whatever ran before."""
        for number, variable in enumerate(_seed_states(self.model)):
            digest = hashlib.sha256(f"{seed}/{epoch}/{number}".encode()).digest()
            start = np.frombuffer(digest[:4], dtype=np.uint32)[0]
            variable.assign(np.array([start, 0]).astype(variable.dtype))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model holds the moving average inside this context; nothing changes when there is none."""
        if not self._average:
            yield
            return
        raw = [weight.numpy() for weight in self._way.moving]
        for weight, average in zip(self._way.moving, self._average, strict=True):
            weight.assign(average.numpy())
        try:
            yield
        finally:
            for weight, value in zip(self._way.moving, raw, strict=True):
                weight.assign(value)

    def state(self) -> dict[str, NDArray[Any]]:
        """Every variable that the next step depends on, dropout states excepted (see ``reseed``)."""
        return {name: np.asarray(variable) for name, variable in self._variables().items()}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Put back what ``state`` gave; raise ``ValueError`` when names or shapes differ."""
        variables = self._variables()
        if {n: tuple(v.shape) for n, v in variables.items()} != {n: a.shape for n, a in state.items()}:
            raise ValueError("the state belongs to another network or optimizer")
        for name, variable in variables.items():
            variable.assign(state[name])

    def _compile(self) -> Any:
        return tf.function(
            self._step,
            jit_compile=True if self._jit_compile else None,
            autograph=False,  # no Python branch here depends on a tensor; translating the source only costs time
            input_signature=[
                self._way.inputs,
                self._way.targets or tf.TensorSpec([None, self.model.outputs[0].shape[-1]], tf.float32),
                tf.TensorSpec([], tf.float32),
            ],
        )

    def _variables(self) -> dict[str, Any]:
        groups = {"weight": self.model.weights, "optimizer": self.optimizer.variables, "average": self._average}
        named = {f"{group}/{i:05d}": v for group, values in groups.items() for i, v in enumerate(values)}
        return {**named, "steps": self._steps}

    def _step(self, images: Any, targets: Any, learning_rate: Any) -> Any:
        self.optimizer.learning_rate.assign(learning_rate)
        replicas = self._strategy.num_replicas_in_sync
        total = tf.cast(tf.shape(images)[0], tf.float32)

        def on_replica() -> Any:
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            own, wanted = (images, targets) if replicas == 1 else (images[number::replicas], targets[number::replicas])
            known = None
            if self._masked:
                known = 1 - tf.cast(tf.math.is_nan(wanted), tf.float32)
                wanted = tf.where(known > 0, wanted, 0.0)
            with tf.GradientTape() as tape:
                logits = self._way.forward(own)
                # Gradients are summed over replicas, so each divides by the size of the whole batch.
                losses = self._loss(wanted, logits, known)
                loss = tf.reduce_sum(losses) / total
                scaled = self.optimizer.scale_loss(loss)
            variables = self._way.trained
            gradients = tape.gradient(scaled, [variable.value for variable in variables])
            if self._gathered:
                for gathered, gradient in zip(self._gathered, gradients, strict=True):
                    if gradient is not None:
                        gathered.assign_add(tf.cast(gradient, gathered.dtype) * total)
            else:
                self.optimizer.apply(self._shared(gradients), variables)
            return loss, losses

        of_replicas, losses_of_replicas = self._strategy.run(on_replica)
        loss = self._strategy.reduce(tf.distribute.ReduceOp.SUM, of_replicas, axis=None)
        if not self._gathered:
            self._stepped()
        if not self._each:
            return loss
        if replicas == 1:
            return loss, losses_of_replicas
        parts = self._strategy.experimental_local_results(losses_of_replicas)
        places = [tf.range(number, tf.shape(images)[0], replicas) for number in range(replicas)]
        return loss, tf.dynamic_stitch(places, parts)

    def _optimizer_step(self, learning_rate: Any, rows: Any) -> None:
        """One step on what was gathered of so many rows."""
        self.optimizer.learning_rate.assign(learning_rate)

        def on_replica() -> None:
            gradients = [gathered / rows for gathered in self._gathered]
            self.optimizer.apply(self._shared(gradients), self._way.trained)
            for gathered in self._gathered:
                gathered.assign(tf.zeros_like(gathered))

        self._strategy.run(on_replica)
        self._stepped()

    def _shared(self, gradients: list[Any]) -> list[Any]:
        """Before clipping, an equal share of the replicas' sum each: clipped and summed, that is the sum, clipped."""
        replicas = self._strategy.num_replicas_in_sync
        if not self._clipped or replicas == 1:
            return gradients
        summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return [gradient / replicas for gradient in summed]

    def _stepped(self) -> None:
        self._steps.assign_add(1)
        if self._average:
            self._update_average()

    def _update_average(self) -> None:
        steps = tf.cast(self._steps, tf.float32)
        decay = tf.minimum(self._ema, (1 + steps) / (10 + steps))
        for average, weight in zip(self._average, self._way.moving, strict=True):
            value = tf.cast(weight.value, average.dtype)
            average.assign(average + tf.cast(1 - decay, average.dtype) * (value - average))


def _inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    return getattr(optimizer, "inner_optimizer", optimizer)


def _whole(model: keras.Model) -> Way:
    network = logits_model(model)
    images = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.uint8)
    return Way(lambda x: network(x, training=True), images, model.trainable_variables, model.weights)


def _seed_states(model: keras.Model) -> list[Any]:
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
