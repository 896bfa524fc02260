"""Training of a small network by a function that is traced once: weights go in and come out as arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.stacking.stackers.cnn_cells import Examples
from labelstack.support.progress import bar

Floats = NDArray[np.float32]
History = dict[str, list[float]]
_PREDICT_VALUES = 2_000_000  # of the network's first input in one batch: bounds the memory for activations
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-7  # Adam's, as Keras has them


class Steps:
    """Epochs of AdamW on a Keras network that answers with a correction of given logits.

    The loss is the binary cross-entropy of sigmoid(logits + correction). The network lends its layers alone; any number
    of fits of equal shapes go through one trace, whatever their rows, one after another or side by side.

    Parameters
    ----------
    model : inputs are two arrays [n, …]; its answer is [n, n_labels]
    """

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        shapes = [tuple(each.shape) for each in model.trainable_variables]
        sizes = [math.prod(shape) for shape in shapes]
        flat = tf.TensorSpec((sum(sizes),), tf.float32)  # all weights in one vector: a step is few operations
        others = [tf.TensorSpec(each.shape, each.dtype) for each in model.non_trainable_variables]
        rows = [tf.TensorSpec(each.shape, tf.float32) for each in model.inputs]
        labels = tf.TensorSpec((None, model.outputs[0].shape[1]), tf.float32)
        weights = tf.TensorSpec((None, None), tf.float32)
        number, count = tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.int64)

        def weights_of(vector: Any) -> Any:
            return [tf.reshape(part, shape) for part, shape in zip(tf.split(vector, sizes), shapes, strict=True)]

        @tf.function(input_signature=[[flat] * 4, others, number, rows, labels, labels, weights, count, [number] * 3])
        def epoch(
            state: Any, other: Any, t: Any, inputs: Any, given: Any, answers: Any, weights: Any, batch: Any, by: Any
        ) -> Any:
            w, first, second, mean = state
            rate, decay, averaging = by
            total = tf.constant(0.0)
            size = tf.shape(given, out_type=tf.int64)[0]
            for start in tf.range(0, size, batch):
                some = slice(start, start + batch)
                with tf.GradientTape() as tape:
                    tape.watch(w)
                    shown = [each[some] for each in inputs]
                    correction, other = model.stateless_call(weights_of(w), other, shown, training=True)
                    losses = tf.nn.sigmoid_cross_entropy_with_logits(
                        labels=answers[some], logits=given[some] + correction
                    )
                    loss = tf.reduce_mean(weights[some] * losses)
                gradient = tape.gradient(loss, w)
                t += 1.0
                first = _FIRST * first + (1 - _FIRST) * gradient
                second = _SECOND * second + (1 - _SECOND) * gradient * gradient
                step = rate * tf.sqrt(1 - tf.pow(_SECOND, t)) / (1 - tf.pow(_FIRST, t))
                w -= step * first / (tf.sqrt(second) + _TINY) + rate * decay * w
                kept = tf.minimum(averaging, (1 + t) / (10 + t))
                mean = kept * mean + (1 - kept) * w
                total += loss * tf.cast(tf.shape(losses)[0], tf.float32)
            return [w, first, second, mean], other, t, total / tf.cast(size, tf.float32)

        @tf.function(input_signature=[flat, others, rows])
        def answer(w: Any, other: Any, inputs: Any) -> Any:
            return model.stateless_call(weights_of(w), other, inputs, training=False)[0]

        self._epoch: Callable[..., Any] = epoch
        self._answer: Callable[..., Any] = answer

    def run(
        self,
        model: Any,
        shown: Iterable[Examples],
        held: Examples | None,
        *,
        batch: int,
        patience: int | None,
        learning_rate: float,
        weight_decay: float,
        averaging: float,
        description: str,
    ) -> History:
        """Train a model of the same layers in place; the weights of the best epoch remain, of none if none is better.

        Parameters
        ----------
        model : with the initial weights
        shown : for each epoch what the network learns from, in order
        held : to stop by; None: the weights of the last epoch remain
        batch : rows of a step
        learning_rate, weight_decay : of AdamW
        patience : stop after so many epochs without gain on what is held; None for all epochs
        averaging : share of the old in the running mean of weights, which is what counts; 0: the weights themselves

        Returns
        -------
        ``loss``: mean cross-entropy of each epoch's steps; ``held_out``: before the first epoch and after each
        """
        import tensorflow as tf

        w = tf.constant(_flat(model))
        other = [tf.constant(each.numpy()) for each in model.non_trainable_variables]
        state, t = [w, tf.zeros_like(w), tf.zeros_like(w), w], tf.constant(0.0)
        by = [tf.constant(value, tf.float32) for value in (learning_rate, weight_decay, averaging)]
        rows = tf.constant(batch, tf.int64)
        history: History = {"loss": [], "held_out": [] if held is None else [held.start]}
        best, least, since = w, np.inf if held is None else held.start, 0
        progress = bar(shown, desc=description, unit="epoch")
        for some in progress:
            data = (some.inputs, some.logits, some.targets, some.weights)
            state, other, t, loss = self._epoch(state, other, t, *data, rows, by)
            history["loss"].append(float(loss))
            if held is None:
                best = state[3]
                continue
            found = held.loss(self._correction(state[3], other, held.inputs))
            history["held_out"].append(found)
            progress.set_postfix(held_out=f"{found:.4f}")
            if found < least:
                least, since, best = found, 0, state[3]
            else:
                since += 1
                if patience is not None and since >= patience:
                    break
        progress.close()
        left = np.asarray(best)
        for variable in model.trainable_variables:
            values, left = np.split(left, [math.prod(variable.shape)])
            variable.assign(values.reshape(variable.shape))
        return history

    def correction(self, model: Any, inputs: Sequence[Floats]) -> Floats:
        """Answers float32 [n, n_labels] of a model of the same layers, in batches of bounded size."""
        return self._correction(_flat(model), [each.value for each in model.non_trainable_variables], inputs)

    def _correction(self, w: Any, other: Any, inputs: Sequence[Floats]) -> Floats:
        step = max(1, _PREDICT_VALUES // inputs[0][0].size)
        parts = [
            np.asarray(self._answer(w, other, [each[i : i + step] for each in inputs]))
            for i in range(0, len(inputs[0]), step)
        ]
        return np.concatenate(parts)


def _flat(model: Any) -> Floats:
    """All weights that are trained, in one vector."""
    return np.concatenate([each.numpy().ravel() for each in model.trainable_variables])
