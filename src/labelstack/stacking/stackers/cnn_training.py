"""Training of one Keras network on arrays in memory, an epoch being one call into TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.support.progress import bar

Floats = NDArray[np.float32]
History = dict[str, list[float]]
_STEPS, _SMALLEST, _LARGEST = 32, 32, 256  # steps of an epoch aimed at, and the batches allowed for that
_PREDICT_VALUES = 2_000_000  # of a cube in one batch: bounds the memory for activations
_LEAST = 1e-7  # predictions are kept this far from 0 and 1 in the cross-entropy


@dataclass(frozen=True)
class CNNTraining:
    """How a network is trained.

    Attributes
    ----------
    epochs : at most
    batch_size : rows of a step; None for a power of two in 32 … 256 that makes about 32 steps an epoch
    patience : stop after so many epochs without gain on the held-out rows; None for all epochs on all rows
    holdout : share of the rows that is held out
    learning_rate, weight_decay : of Adam, of AdamW where there is decay
    """

    epochs: int
    batch_size: int | None
    patience: int | None
    holdout: float
    learning_rate: float
    weight_decay: float

    def run(self, model: Any, x: Floats, y: Floats, seed: int, description: str) -> History:
        """Train in place, on x [n, n_models, n_labels, 1] and y [n, n_labels]; the best epoch's weights remain.

        Returns
        -------
        ``loss``: mean cross-entropy of each epoch's steps; ``held_out``: after each epoch, empty without held-out rows
        """
        rng = np.random.default_rng(seed)
        held, rows = self._split(len(x), rng)
        epoch = _epoch(model, x, y, self._optimizer(), self.batch_size or batch_rows(len(rows)))
        history: History = {"loss": [], "held_out": []}
        best: list[Floats] = []
        least, since = np.inf, 0
        epochs = bar(range(self.epochs), desc=description, unit="epoch")
        for _ in epochs:
            history["loss"].append(epoch(rng.permutation(rows)))
            epochs.set_postfix(loss=f"{history['loss'][-1]:.4f}")
            if not len(held):
                continue
            loss = cross_entropy(y[held], predict(model, x[held]))
            history["held_out"].append(loss)
            epochs.set_postfix(loss=f"{history['loss'][-1]:.4f}", held_out=f"{loss:.4f}")
            if loss < least:
                least, since, best = loss, 0, model.get_weights()
            else:
                since += 1
                if self.patience is not None and since >= self.patience:
                    break
        epochs.close()
        if since:
            model.set_weights(best)
        return history

    def _split(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows held out and rows to train on; none are held out where there is nothing to stop, or one row only."""
        count = 0 if self.patience is None or n == 1 else max(1, round(self.holdout * n))
        order = rng.permutation(n) if count else np.arange(n)
        return np.sort(order[:count]), np.sort(order[count:])

    def _optimizer(self) -> Any:
        import keras

        if self.weight_decay:
            return keras.optimizers.AdamW(self.learning_rate, weight_decay=self.weight_decay)
        return keras.optimizers.Adam(self.learning_rate)


def batch_rows(n: int) -> int:
    """Rows of a step for n rows: large where there are many, since the optimizer's work is by step."""
    return int(np.clip(2 ** round(math.log2(max(n / _STEPS, 1))), _SMALLEST, _LARGEST))


def predict(model: Any, x: Floats) -> Floats:
    """Answers float32 [n, n_labels] of a network to x [n, n_models, n_labels, 1], in batches of bounded size."""
    step = max(1, _PREDICT_VALUES // x[0].size)
    return np.concatenate([np.asarray(model(x[i : i + step], training=False)) for i in range(0, len(x), step)])


def cross_entropy(y: Floats, p: Floats) -> float:
    """Mean binary cross-entropy of answers p to targets y, both [n, n_labels]."""
    q = np.clip(p.astype(np.float64), _LEAST, 1 - _LEAST)
    return float(-(y * np.log(q) + (1 - y) * np.log1p(-q)).mean())


def _epoch(model: Any, x: Floats, y: Floats, optimizer: Any, batch: int) -> Callable[[NDArray[np.int64]], float]:
    """A function that trains on the given rows in their order and returns the mean loss."""
    import keras
    import tensorflow as tf

    optimizer.build(model.trainable_variables)
    inputs, targets = tf.constant(x), tf.constant(y)

    @tf.function(jit_compile=False)  # type: ignore[untyped-decorator]
    def train(order: Any) -> Any:
        total = tf.constant(0.0)
        for start in tf.range(0, tf.size(order), batch):
            rows = order[start : start + batch]
            with tf.GradientTape() as tape:
                answers = model(tf.gather(inputs, rows), training=True)
                loss = tf.reduce_mean(keras.losses.binary_crossentropy(tf.gather(targets, rows), answers))
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            total += loss * tf.cast(tf.size(rows), tf.float32)
        return total / tf.cast(tf.size(order), tf.float32)

    return lambda order: float(train(tf.constant(order)))
