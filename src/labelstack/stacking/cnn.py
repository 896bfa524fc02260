"""The convolutional stacker: (3, 1) windows learn how models agree, dense layers how labels go together."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from labelstack import params_stacking as params
from labelstack.errors import UserError
from labelstack.progress import bar
from labelstack.quiet import load_tensorflow
from labelstack.stacking.archive import make_canonical
from labelstack.stacking.checks import check_answers, check_cube
from labelstack.storage import read_json, replacing_dir, write_json

log = logging.getLogger(__name__)
_PREDICT_ROWS = 256
_LOGIT_LIMIT = 1e-6  # probabilities are kept this far from 0 and 1 before the logit


class CNNStacker(BaseEstimator):  # type: ignore[misc]
    """Conv2D layers over models, then dense layers over labels, on the cube [n, n_models, n_labels, 1].

    Input → Conv2D(8, (3,1)) → 16 → 32 → 64, all relu → Flatten → Dense(1024, relu) → Dense(n_labels, sigmoid), binary
    cross-entropy, Adam (AdamW with ``weight_decay``), a fixed number of epochs, so that no held-out row decides when to
    stop. The bias of the last layer starts at the logit of each label's frequency: training begins at the priors.

    Parameters
    ----------
    filters, kernel, units, dropout : the layers; dropout (0 = none) stands after the dense layer
    padding : ``fit`` uses as many valid convolutions as n_models allows (four of height 3 need nine models) and logs
        how many; ``same`` pads and uses all
    epochs, batch_size, learning_rate, weight_decay : training
    inputs : ``probability`` as given, or ``logit`` of it
    seed : of initial weights, dropout and the order of rows

    Notes
    -----
    ``fit`` clears the Keras session and turns on TensorFlow's op determinism for the process; it neither reads nor sets
    global random seeds. Equal data and parameters give equal weights on one machine, whatever ran before.
    """

    def __init__(
        self,
        *,
        filters: list[int] | tuple[int, ...] = (8, 16, 32, 64),
        kernel: int = 3,
        padding: str = "fit",
        units: int = 1024,
        dropout: float = 0,
        epochs: int = 30,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 0,
        inputs: str = "probability",
        seed: int = 0,
    ) -> None:
        self.filters = filters
        self.kernel = kernel
        self.padding = padding
        self.units = units
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.inputs = inputs
        self.seed = seed

    def fit(self, cube: ArrayLike, Y: ArrayLike, *, progress: str = "") -> CNNStacker:
        """Train on a cube [n, n_models, n_labels] and answers 0/1 [n, n_labels].

        Sets ``model_`` (the Keras model), ``shape_`` (n_models, n_labels) and ``history_`` (mean loss of each epoch).
        Raises ``ValueError`` that names the argument on input or parameters that do not fit.
        """
        params.CNNStacker(**{**self.get_params(), "filters": list(self.filters)})
        values = check_cube(cube)
        answers = check_answers(Y, (values.shape[0], values.shape[2])).astype(np.float32)
        keras = _keras()
        keras.backend.clear_session()
        self.shape_ = (values.shape[1], values.shape[2])
        self.model_ = build_cnn(self, *self.shape_, prior=answers.mean(axis=0))
        # A second model on the same layers is compiled and trained, so the one that is kept and saved has no optimizer.
        trainer = keras.Model(self.model_.inputs, self.model_.outputs)
        trainer.compile(optimizer=self._optimizer(keras), loss="binary_crossentropy", jit_compile=False)
        trainer.optimizer.build(trainer.trainable_variables)
        self.history_ = self._train(trainer, self._inputs(values), answers, progress)
        return self

    def predict_proba(self, cube: ArrayLike) -> NDArray[np.float32]:
        """Probabilities float32 [n, n_labels] for a cube with the models and labels of the fit."""
        check_is_fitted(self, "model_")
        inputs = self._inputs(check_cube(cube, fitted=self.shape_))
        starts = range(0, len(inputs), _PREDICT_ROWS)
        parts = [self.model_.predict_on_batch(inputs[start : start + _PREDICT_ROWS]) for start in starts]
        return np.concatenate(parts).astype(np.float32)

    def save(self, directory: str | Path) -> None:
        """Write ``model.keras`` and ``config.json``; equal stackers give equal bytes."""
        check_is_fitted(self, "model_")
        with replacing_dir(directory) as temporary:
            self.model_.save(temporary / "model.keras")
            make_canonical(temporary / "model.keras")
            write_json(temporary / "config.json", self._config() | {"history": self.history_})

    @classmethod
    def load(cls, directory: str | Path) -> CNNStacker:
        """Read what ``save`` wrote, in Keras' safe mode; raise ``UserError`` when it is something else."""
        directory = Path(directory)
        config = read_json(directory / "config.json")
        try:
            stacker = cls(**config["params"])
            stacker.shape_ = (int(config["n_models"]), int(config["n_labels"]))
            stacker.history_ = [float(loss) for loss in config["history"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{directory}/config.json: not a saved CNN stacker ({error})") from None
        try:
            stacker.model_ = _keras().models.load_model(directory / "model.keras", compile=False, safe_mode=True)
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise UserError(f"{directory}/model.keras: cannot be loaded ({error})") from None
        if stacker.model_.input_shape != (None, *stacker.shape_, 1):
            raise UserError(f"{directory}: model.keras takes {stacker.model_.input_shape}, config.json says otherwise")
        return stacker

    def digest(self) -> str:
        """SHA-256 in hex over parameters, shape and weights in order."""
        check_is_fitted(self, "model_")
        digest = hashlib.sha256(json.dumps(self._config(), sort_keys=True).encode())
        for weights in self.model_.get_weights():
            digest.update(np.ascontiguousarray(weights).tobytes())
        return digest.hexdigest()

    def _train(self, trainer: Any, x: NDArray[np.float32], y: NDArray[np.float32], progress: str) -> list[float]:
        rng = np.random.default_rng(self.seed)
        history = []
        epochs = bar(range(self.epochs), desc=f"CNN stacker {progress}".strip(), unit="epoch")
        for _ in epochs:
            trainer.reset_metrics()
            order = rng.permutation(len(x))
            for start in range(0, len(x), self.batch_size):
                rows = order[start : start + self.batch_size]
                loss = trainer.train_on_batch(x[rows], y[rows])  # the mean since reset_metrics
            history.append(float(loss))
            epochs.set_postfix(loss=f"{history[-1]:.4f}")
        return history

    def _optimizer(self, keras: Any) -> Any:
        if self.weight_decay:
            return keras.optimizers.AdamW(self.learning_rate, weight_decay=self.weight_decay)
        return keras.optimizers.Adam(self.learning_rate)

    def _inputs(self, cube: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.inputs == "logit":
            clipped = np.clip(cube, _LOGIT_LIMIT, 1 - _LOGIT_LIMIT)
            cube = np.log(clipped / (1 - clipped))
        return cube[..., np.newaxis]

    def _config(self) -> dict[str, Any]:
        own = {**self.get_params(), "filters": list(self.filters)}
        return {"kind": "cnn", "n_models": self.shape_[0], "n_labels": self.shape_[1], "params": own}


def build_cnn(stacker: CNNStacker, n_models: int, n_labels: int, *, prior: NDArray[np.float32] | None = None) -> Any:
    """The stacker's Keras model, not compiled; ``prior`` float [n_labels] sets the bias of the last layer."""
    layers = _keras().layers
    glorot = _keras().initializers.GlorotUniform
    filters = list(stacker.filters)
    if stacker.padding == "fit":
        filters = _that_fit(filters, stacker.kernel, n_models)
    x = inputs = layers.Input((n_models, n_labels, 1), name="cube")
    for i, count in enumerate(filters):
        x = layers.Conv2D(
            count,
            (stacker.kernel, 1),
            padding="valid" if stacker.padding == "fit" else "same",
            activation="relu",
            kernel_initializer=glorot(seed=stacker.seed + i),
            name=f"convolution_{i + 1}",
        )(x)
    x = layers.Flatten(name="flatten")(x)
    init = glorot(seed=stacker.seed + len(filters))
    x = layers.Dense(stacker.units, activation="relu", kernel_initializer=init, name="dense")(x)
    if stacker.dropout:
        x = layers.Dropout(stacker.dropout, seed=stacker.seed, name="dropout")(x)
    init = glorot(seed=stacker.seed + len(filters) + 1)
    output = layers.Dense(n_labels, activation="sigmoid", kernel_initializer=init, name="labels")
    x = output(x)
    if prior is not None:
        smoothed = np.clip(prior, 1e-4, 1 - 1e-4)
        output.bias.assign(np.log(smoothed / (1 - smoothed)))
    return _keras().Model(inputs, x, name="cnn_stacker")


def _that_fit(filters: list[int], kernel: int, n_models: int) -> list[int]:
    count = len(filters) if kernel == 1 else min(len(filters), (n_models - 1) // (kernel - 1))
    if count < len(filters):
        log.warning(
            "CNN stacker: %d models leave room for %d of %d valid convolutions of height %d (padding: same uses all)",
            n_models,
            count,
            len(filters),
            kernel,
        )
    return filters[:count]


def _keras() -> Any:
    """Keras on TensorFlow, imported only now, with deterministic operations."""
    load_tensorflow()
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    return keras
