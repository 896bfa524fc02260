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
from labelstack.stacking.sampling import some_rows
from labelstack.stacking.stackers.averaging import mean_of
from labelstack.stacking.stackers.cnn_residual import ResidualNetworks, network_seeds
from labelstack.stacking.stackers.cnn_training import CNNTraining, History, predict
from labelstack.stacking.stackers.linear import LogisticStacker
from labelstack.support.archive import make_canonical
from labelstack.support.errors import UserError
from labelstack.support.quiet import load_tensorflow
from labelstack.support.storage import read_json, replacing_dir, write_json

log = logging.getLogger(__name__)
_KEPT = ("loss", "held_out")
_RESIDUAL_ONLY = ("structure", "start", "rank", "averaging")
_LOGIT_LIMIT = 1e-6  # probabilities are kept this far from 0 and 1 before the logit


class CNNStacker(BaseEstimator):  # type: ignore[misc]
    """Convolutions over models, dense layers over labels, on the cube [n, n_models, n_labels].

    ``residual``: a regression's logits plus a correction that begins at zero (``ResidualNetworks`` has the layers).
    ``published``: Input → Conv2D(8, (3,1)) → 16 → 32 → 64, all relu → Flatten → Dense(1024, relu) → Dense(n_labels,
    sigmoid), with the bias of the last layer at the logit of each label's frequency: training begins at the priors.
    Both: binary cross-entropy, Adam (AdamW with ``weight_decay``). A part of the rows fitted is held out to stop by;
    the weights of the best epoch remain, of none where the start itself is best.

    Parameters
    ----------
    structure : ``residual`` or ``published``; only the former knows ``start``, ``rank`` and ``averaging``
    start : what is corrected: ``logistic``, the fit of ``LogisticStacker``; ``mean``, one weight a model for all labels
        and each label's prior; ``prior``, that alone. The network learns from logits that leave out the row's answer
    filters, kernel, units, dropout : the layers; None for ``CNN_STRUCTURES``'; dropout (0 = none) stands after the
        dense layer
    padding : ``fit`` uses as many valid convolutions as n_models allows (four of height 3 need nine models) and logs
        how many; ``same`` pads and uses all
    rank : units through which the start's logits of all labels act on each label; 0 for none
    epochs, learning_rate, weight_decay : training; an epoch of ``residual`` is 16 steps, whatever the rows
    batch_size : rows of a step; None: for ``published`` a power of two in 32 … 256 that makes about 32 steps an epoch.
        ``residual`` draws as many images × labels as so many rows have, by their errors (``Cells``); None: 1 of 400,
        768 to 3,072. With ``rank`` it takes whole rows, None: a power of two in 16 … 256 that shows about a hundredth
        of images × labels, 3,000 to 12,000
    early_stopping : stop after so many epochs without gain on the held-out rows; None for all epochs on all rows
    holdout : share of the rows that is held out; with ``residual`` 200 rows or 100,000 images × labels are enough, of
        which 8,192 are drawn by their errors
    averaging : share of the old in the running mean of weights after each step, which is what answers; 0 for none
    inputs : ``probability`` as given, ``logit`` of it, or ``both``; None for ``CNN_STRUCTURES``'
    seeds : networks whose mean is the answer; each has initial weights, an order of rows and held-out rows of its own
    rows : images that are learnt from at most, drawn from those of the fit; None: all
    seed : of initial weights, dropout, held-out rows and the order of rows

    Notes
    -----
    ``fit`` turns on TensorFlow's op determinism for the process; it neither reads nor sets global random seeds. With
    ``published`` it clears the Keras session. Equal data and parameters give equal weights on one machine, whatever ran
    before.
    """

    def __init__(
        self,
        *,
        structure: str = "residual",
        start: str = "logistic",
        filters: list[int] | tuple[int, ...] | None = None,
        kernel: int = 3,
        padding: str = "fit",
        units: int | None = None,
        rank: int = 0,
        dropout: float = 0,
        epochs: int = 30,
        batch_size: int | None = None,
        early_stopping: int | None = 3,
        holdout: float = 0.1,
        learning_rate: float | None = None,
        weight_decay: float = 0,
        averaging: float = 0.98,
        inputs: str | None = None,
        seeds: int = 1,
        rows: int | None = None,
        seed: int = 0,
    ) -> None:
        self.structure = structure
        self.start = start
        self.filters = filters
        self.kernel = kernel
        self.padding = padding
        self.units = units
        self.rank = rank
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.holdout = holdout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.averaging = averaging
        self.inputs = inputs
        self.seeds = seeds
        self.rows = rows
        self.seed = seed

    def fit(self, cube: ArrayLike, Y: ArrayLike, *, progress: str = "") -> CNNStacker:
        """Train on a cube [n, n_models, n_labels] and answers [n, n_labels], 0/1 or soft.

        Sets ``models_`` (the Keras models), ``shape_`` (n_models, n_labels), ``history_`` (of each network ``loss``
        by epoch and ``held_out`` after each, with ``residual`` before the first too) and ``start_`` (the regression;
        None with ``published``). Raises ``ValueError`` that names the argument on input or parameters that do not fit.
        """
        settings = self._settled()
        values = check_cube(cube)
        targets = check_targets(Y, (values.shape[0], values.shape[2]))
        some = some_rows(len(values), self.rows)
        values, targets = values[some], targets[some]
        self.shape_ = (values.shape[1], values.shape[2])
        self.models_: list[Any] = []
        self.history_: list[History] = []
        self.start_: LogisticStacker | None = None
        seeds = network_seeds(self.seed, self.seeds)
        keras = _keras()
        if self.structure == "residual":
            fitted = ResidualNetworks.fit(settings, values, targets, seeds=seeds, progress=progress)
            self.start_, self.models_, self.history_ = fitted.start, fitted.models, fitted.history
            return self
        inputs, prior = self._inputs(values), targets.mean(axis=0)
        names = ("epochs", "batch_size", "early_stopping", "holdout", "learning_rate", "weight_decay")
        training = CNNTraining(*(settings[name] for name in names))
        for i, seed in enumerate(seeds):
            keras.utils.clear_session(free_memory=False)  # layers are named from zero again
            one = clone(self).set_params(seed=seed)
            model = build_cnn(one, *self.shape_, prior=prior)
            which = f"network {i + 1}/{self.seeds}" if self.seeds > 1 else ""
            description = " ".join(["CNN stacker", progress, which]).strip()
            self.history_.append(training.run(model, inputs, targets, seed, description))
            self.models_.append(model)
        return self

    def predict_proba(self, cube: ArrayLike) -> NDArray[np.float32]:
        """Probabilities float32 [n, n_labels] for a cube with the models and labels of the fit."""
        check_is_fitted(self, "models_")
        values = check_cube(cube, fitted=self.shape_)
        if self.start_ is not None:
            _keras()
            networks = ResidualNetworks(self._settled(), self.shape_, self.start_, self.models_, self.history_)
            return mean_of(networks.predict(values))
        inputs = self._inputs(values)
        return mean_of([predict(model, inputs) for model in self.models_])

    def save(self, directory: str | Path) -> None:
        """Write ``config.json``, ``model.keras`` or ``model-<i>.keras``, and the folder ``start``.

        Equal stackers give equal bytes.
        """
        check_is_fitted(self, "models_")
        with replacing_dir(directory) as temporary:
            for name, model in zip(_files(self.seeds), self.models_, strict=True):
                model.save(temporary / name)
                make_canonical(temporary / name)
            if self.start_ is not None:
                self.start_.save(temporary / "start")
            write_json(temporary / "config.json", self._config() | {"history": self.history_})

    @classmethod
    def load(cls, directory: str | Path) -> CNNStacker:
        """Read what ``save`` wrote, in Keras' safe mode; raise ``UserError`` when it is something else.

        What was saved before there was ``structure`` has the published layers.
        """
        directory = Path(directory)
        config = read_json(directory / "config.json")
        try:
            stacker = cls(**{"structure": "published", **config["params"]})
            stacker.shape_ = (int(config["n_models"]), int(config["n_labels"]))
            stacker.history_ = [{name: list(map(float, one[name])) for name in _KEPT} for one in config["history"]]
            files = _files(stacker.seeds)
            settings = stacker._settled()
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{directory}/config.json: not a saved CNN stacker ({error})") from None
        residual = stacker.structure == "residual"
        stacker.start_ = LogisticStacker.load(directory / "start") if residual else None
        if stacker.start_ is not None and stacker.start_.shape_ != stacker.shape_:
            raise UserError(f"{directory}/start: is of {stacker.start_.shape_}, config.json says {stacker.shape_}")
        channels = 2 if settings["inputs"] == "both" else 1
        stacker.models_ = [_load(directory / name, (*stacker.shape_, channels)) for name in files]
        return stacker

    def digest(self) -> str:
        """SHA-256 in hex over parameters, shape, weights in order and the start."""
        check_is_fitted(self, "models_")
        digest = hashlib.sha256(json.dumps(self._config(), sort_keys=True).encode())
        for model in self.models_:
            for weights in model.get_weights():
                digest.update(np.ascontiguousarray(weights).tobytes())
        if self.start_ is not None:
            digest.update(self.start_.digest().encode())
        return digest.hexdigest()

    def _settled(self) -> dict[str, Any]:
        """Parameters without those that are None, checked."""
        return CNNStackerSection(**self._own()).settled()

    def _own(self) -> dict[str, Any]:
        filters = None if self.filters is None else list(self.filters)
        return {**self.get_params(), "filters": filters}

    def _inputs(self, cube: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._settled()["inputs"] == "logit":
            clipped = np.clip(cube, _LOGIT_LIMIT, 1 - _LOGIT_LIMIT)
            cube = np.log(clipped / (1 - clipped))
        return cube[..., np.newaxis]

    def _config(self) -> dict[str, Any]:
        own = self._own()
        if self.structure == "published":  # as it was before there was another
            own = {name: value for name, value in own.items() if name not in _RESIDUAL_ONLY}
            own = own if self.rows else {name: value for name, value in own.items() if name != "rows"}
        return {"kind": "cnn", "n_models": self.shape_[0], "n_labels": self.shape_[1], "params": own}


def build_cnn(stacker: CNNStacker, n_models: int, n_labels: int, *, prior: NDArray[np.float32] | None = None) -> Any:
    """The stacker's Keras model, not compiled; ``prior`` float [n_labels] sets the bias of the last layer."""
    layers = _keras().layers
    glorot = _keras().initializers.GlorotUniform
    settings = stacker._settled()
    filters = list(settings["filters"])
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
    x = layers.Dense(settings["units"], activation="relu", kernel_initializer=init, name="dense")(x)
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


def _load(path: Path, shape: tuple[int, ...]) -> Any:
    try:
        model = _keras().models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be loaded ({error})") from None
    takes = tuple(model.inputs[0].shape)
    if takes != (None, *shape):
        raise UserError(f"{path}: takes {takes}, config.json says otherwise")
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
