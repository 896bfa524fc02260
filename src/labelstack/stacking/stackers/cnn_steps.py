"""Training of a small network by a function that is traced once: weights go in and come out as arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

        variables = [tf.TensorSpec(each.shape, each.dtype) for each in model.trainable_variables]
        others = [tf.TensorSpec(each.shape, each.dtype) for each in model.non_trainable_variables]
        rows = [tf.TensorSpec(each.shape, tf.float32) for each in model.inputs]
        labels = tf.TensorSpec((None, model.outputs[0].shape[1]), tf.float32)
        number = tf.TensorSpec((), tf.float32)

        @tf.function(
            input_signature=[
                [variables] * 4,
                others,
                number,
                rows,
                labels,
                labels,
                tf.TensorSpec((None,), tf.int64),
                tf.TensorSpec((), tf.int64),
                [number] * 3,
            ]
        )
        def epoch(
            state: Any, other: Any, t: Any, inputs: Any, given: Any, answers: Any, order: Any, batch: Any, by: Any
        ) -> Any:
            w, first, second, mean = state
            rate, decay, averaging = by
            total = tf.constant(0.0)
            for start in tf.range(0, tf.size(order, out_type=tf.int64), batch):
                some = order[start : start + batch]
                with tf.GradientTape() as tape:
                    tape.watch(w)
                    parts = [tf.gather(each, some) for each in inputs]
                    correction, other = model.stateless_call(w, other, parts, training=True)
                    logits = tf.gather(given, some) + correction
                    loss = tf.reduce_mean(
                        tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.gather(answers, some), logits=logits)
                    )
                gradients = tape.gradient(loss, w)
                t += 1.0
                first = [_FIRST * a + (1 - _FIRST) * g for a, g in zip(first, gradients, strict=True)]
                second = [_SECOND * a + (1 - _SECOND) * g * g for a, g in zip(second, gradients, strict=True)]
                step = rate * tf.sqrt(1 - tf.pow(_SECOND, t)) / (1 - tf.pow(_FIRST, t))
                w = [
                    each - step * a / (tf.sqrt(b) + _TINY) - rate * decay * each
                    for each, a, b in zip(w, first, second, strict=True)
                ]
                kept = tf.minimum(averaging, (1 + t) / (10 + t))
                mean = [kept * old + (1 - kept) * new for old, new in zip(mean, w, strict=True)]
                total += loss * tf.cast(tf.size(some), tf.float32)
            return [w, first, second, mean], other, t, total / tf.cast(tf.size(order), tf.float32)

        @tf.function(input_signature=[variables, others, rows])
        def answer(w: Any, other: Any, inputs: Any) -> Any:
            return model.stateless_call(w, other, inputs, training=False)[0]

        self._epoch: Callable[..., Any] = epoch
        self._answer: Callable[..., Any] = answer

    def run(
        self,
        model: Any,
        inputs: Sequence[Floats],
        logits: Floats,
        targets: Floats,
        *,
        held: NDArray[np.int64],
        seed: int,
        epochs: int,
        steps: int,
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
        inputs, logits, targets : [n, …] of all rows; [n, n_labels] that are corrected; [n, n_labels]
        held : rows to stop by, which are not trained on; without any, all epochs run
        seed : of the order of rows
        epochs, steps : at most so many epochs of so many steps each, whatever the rows
        batch, learning_rate, weight_decay : rows of a step; of AdamW
        patience : stop after so many epochs without gain on the rows held; None for all epochs
        averaging : share of the old in the running mean of weights, which is what counts; 0: the weights themselves

        Returns
        -------
        ``loss``: mean cross-entropy of each epoch's steps; ``held_out``: before the first epoch and after each
        """
        import tensorflow as tf

        rng = np.random.default_rng(seed)
        rows = np.setdiff1d(np.arange(len(targets)), held)
        w = [tf.constant(each.numpy()) for each in model.trainable_variables]
        other = [tf.constant(each.numpy()) for each in model.non_trainable_variables]
        zeros = [tf.zeros_like(each) for each in w]
        state, t = [w, zeros, zeros, w], tf.constant(0.0)
        data = [[tf.constant(each) for each in inputs], tf.constant(logits), tf.constant(targets)]
        by = [tf.constant(value, tf.float32) for value in (learning_rate, weight_decay, averaging)]
        kept = [each[held] for each in inputs]
        history: History = {"loss": [], "held_out": []}
        best, least, since = w, np.inf, 0
        if len(held):
            least = cross_entropy(targets[held], logits[held])
            history["held_out"].append(least)
        turns = _turns(rows, steps * batch, rng)
        progress = bar(range(epochs), desc=description, unit="epoch")
        for _ in progress:
            order = tf.constant(next(turns))
            state, other, t, loss = self._epoch(state, other, t, *data, order, tf.constant(batch, tf.int64), by)
            history["loss"].append(float(loss))
            if not len(held):
                best = state[3]
                continue
            found = cross_entropy(targets[held], logits[held] + self._correction(state[3], other, kept))
            history["held_out"].append(found)
            progress.set_postfix(held_out=f"{found:.4f}")
            if found < least:
                least, since, best = found, 0, state[3]
            else:
                since += 1
                if patience is not None and since >= patience:
                    break
        progress.close()
        for variable, value in zip(model.trainable_variables, best, strict=True):
            variable.assign(value)
        return history

    def correction(self, model: Any, inputs: Sequence[Floats]) -> Floats:
        """Answers float32 [n, n_labels] of a model of the same layers, in batches of bounded size."""
        w = [each.value for each in model.trainable_variables]
        return self._correction(w, [each.value for each in model.non_trainable_variables], inputs)

    def _correction(self, w: Any, other: Any, inputs: Sequence[Floats]) -> Floats:
        step = max(1, _PREDICT_VALUES // inputs[0][0].size)
        parts = [
            np.asarray(self._answer(w, other, [each[i : i + step] for each in inputs]))
            for i in range(0, len(inputs[0]), step)
        ]
        return np.concatenate(parts)


def _turns(rows: NDArray[np.int64], count: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """So many rows at a time, out of one random order of all rows after the other."""
    left = np.empty(0, np.int64)
    while True:
        while len(left) < count:
            left = np.concatenate([left, rng.permutation(rows)])
        yield left[:count]
        left = left[count:]


def cross_entropy(targets: NDArray[Any], logits: NDArray[Any]) -> float:
    """Mean binary cross-entropy of logits, both [n, n_labels]."""
    z = logits.astype(np.float64)
    return float((np.logaddexp(0, z) - targets * z).mean())
