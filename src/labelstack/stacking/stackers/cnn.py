"""The convolutional stacker: (3, 1) windows learn how models agree, dense layers how labels go together."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from labelstack.params.stackers import CNNStackerSection
from labelstack.stacking.array_checks import check_cube, check_targets
from labelstack.stacking.stackers.averaging import mean_of
from labelstack.stacking.stackers.cnn_training import CNNTraining, History, predict
from labelstack.support.archive import make_canonical
from labelstack.support.errors import UserError
from labelstack.support.quiet import load_tensorflow
from labelstack.support.storage import read_json, replacing_dir, write_json

log = logging.getLogger(__name__)
_SEED_STRIDE = 101  # more than a network has layers, each of which takes a seed of its own
_KEPT = ("loss", "held_out")
_LOGIT_LIMIT = 1e-6  # probabilities are kept this far from 0 and 1 before the logit


class CNNStacker(BaseEstimator):  # type: ignore[misc]
    """Conv2D layers over models, then dense layers over labels, on the cube [n, n_models, n_labels, 1].

    Input → Conv2D(8, (3,1)) → 16 → 32 → 64, all relu → Flatten → Dense(1024, relu) → Dense(n_labels, sigmoid), binary
    cross-entropy, Adam (AdamW with ``weight_decay``). A part of the rows fitted is held out to stop by; the weights of
    the best epoch remain. The bias of the last layer starts at the logit of each label's frequency: training begins at
    the priors.

    Parameters
    ----------
    filters, kernel, units, dropout : the layers; dropout (0 = none) stands after the dense layer
    padding : ``fit`` uses as many valid convolutions as n_models allows (four of height 3 need nine models) and logs
        how many; ``same`` pads and uses all
    epochs, learning_rate, weight_decay : training
    batch_size : rows of a step; None for a power of two in 32 … 256 that makes about 32 steps an epoch
    early_stopping : stop after so many epochs without gain on the held-out rows; None for all epochs on all rows
    holdout : share of the rows that is held out
    inputs : ``probability`` as given, or ``logit`` of it
    seeds : networks whose mean is the answer; each has initial weights, an order of rows and held-out rows of its own
    seed : of initial weights, dropout, held-out rows and the order of rows

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
        batch_size: int | None = None,
        early_stopping: int | None = 3,
        holdout: float = 0.1,
        learning_rate: float = 1e-3,
        weight_decay: float = 0,
        inputs: str = "probability",
        seeds: int = 1,
        seed: int = 0,
    ) -> None:
        self.filters = filters
        self.kernel = kernel
        self.padding = padding
        self.units = units
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.holdout = holdout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.inputs = inputs
        self.seeds = seeds
        self.seed = seed

    def fit(self, cube: ArrayLike, Y: ArrayLike, *, progress: str = "") -> CNNStacker:
        """Train on a cube [n, n_models, n_labels] and answers [n, n_labels], 0/1 or soft.

        Sets ``models_`` (the Keras models), ``shape_`` (n_models, n_labels) and ``history_`` (of each network ``loss``
        and ``held_out``, both by epoch). Raises ``ValueError`` that names the argument on input or parameters that do
        not fit.
        """
        CNNStackerSection(**{**self.get_params(), "filters": list(self.filters)})
        values = check_cube(cube)
        targets = check_targets(Y, (values.shape[0], values.shape[2]))
        self.shape_ = (values.shape[1], values.shape[2])
        self.models_: list[Any] = []
        self.history_: list[History] = []
        inputs, prior = self._inputs(values), targets.mean(axis=0)
        training = CNNTraining(
            self.epochs, self.batch_size, self.early_stopping, self.holdout, self.learning_rate, self.weight_decay
        )
        for i in range(self.seeds):
            _keras().utils.clear_session(free_memory=False)  # layers are named from zero again
            one = clone(self).set_params(seed=self.seed + i * _SEED_STRIDE)
            model = build_cnn(one, *self.shape_, prior=prior)
            which = f"network {i + 1}/{self.seeds}" if self.seeds > 1 else ""
            description = " ".join(["CNN stacker", progress, which]).strip()
            self.history_.append(training.run(model, inputs, targets, one.seed, description))
            self.models_.append(model)
        return self

    def predict_proba(self, cube: ArrayLike) -> NDArray[np.float32]:
        """Probabilities float32 [n, n_labels] for a cube with the models and labels of the fit."""
        check_is_fitted(self, "models_")
        inputs = self._inputs(check_cube(cube, fitted=self.shape_))
        return mean_of([predict(model, inputs) for model in self.models_])

    def save(self, directory: str | Path) -> None:
        """Write ``config.json`` and ``model.keras``, or ``model-<i>.keras``; equal stackers give equal bytes."""
        check_is_fitted(self, "models_")
        with replacing_dir(directory) as temporary:
            for name, model in zip(_files(self.seeds), self.models_, strict=True):
                model.save(temporary / name)
                make_canonical(temporary / name)
            write_json(temporary / "config.json", self._config() | {"history": self.history_})

    @classmethod
    def load(cls, directory: str | Path) -> CNNStacker:
        """Read what ``save`` wrote, in Keras' safe mode; raise ``UserError`` when it is something else."""
        directory = Path(directory)
        config = read_json(directory / "config.json")
        try:
            stacker = cls(**config["params"])
            stacker.shape_ = (int(config["n_models"]), int(config["n_labels"]))
            stacker.history_ = [{name: list(map(float, one[name])) for name in _KEPT} for one in config["history"]]
            files = _files(stacker.seeds)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{directory}/config.json: not a saved CNN stacker ({error})") from None
        stacker.models_ = [_load(directory / name, stacker.shape_) for name in files]
        return stacker

    def digest(self) -> str:
        """SHA-256 in hex over parameters, shape and weights in order."""
        check_is_fitted(self, "models_")
        digest = hashlib.sha256(json.dumps(self._config(), sort_keys=True).encode())
        for model in self.models_:
            for weights in model.get_weights():
                digest.update(np.ascontiguousarray(weights).tobytes())
        return digest.hexdigest()

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


def _files(seeds: int) -> list[str]:
    return ["model.keras"] if seeds == 1 else [f"model-{i}.keras" for i in range(seeds)]


def _load(path: Path, shape: tuple[int, int]) -> Any:
    try:
        model = _keras().models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be loaded ({error})") from None
    if model.input_shape != (None, *shape, 1):
        raise UserError(f"{path}: takes {model.input_shape}, config.json says otherwise")
    return model


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
