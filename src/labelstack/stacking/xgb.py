"""The XGBoost stacker: one booster of gradient-boosted trees for each label."""

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
from labelstack.stacking.archive import read_archive, write_archive
from labelstack.stacking.checks import check_answers, check_cube
from labelstack.storage import read_json, replacing_dir, write_json

log = logging.getLogger(__name__)


class XGBoostStacker(BaseEstimator):  # type: ignore[misc]
    """Boosted trees with objective ``binary:logistic`` and tree method ``hist``, one booster a label.

    With ``features="all"`` this is scikit-learn's ``MultiOutputRegressor(XGBRegressor(…))`` with that objective on the
    flattened cube, to the last bit; only, the columns are binned once for all labels.

    Parameters
    ----------
    features : what the trees of a label see: ``all`` (every model's probability of every label), ``own`` (every model's
        probability of that label) or ``own+context`` (that, and the models' mean probability of every label)
    n_estimators, max_depth, learning_rate, subsample, colsample_bytree, min_child_weight, reg_lambda : as in XGBoost
    device : ``cpu`` or ``cuda``; the latter needs a build of XGBoost for GPUs
    seed : of the subsampling
    n_jobs : threads, None for all cores; does not change the result

    Notes
    -----
    A label that is always or never true in the rows fitted has nothing to learn from. It is answered with the constant
    (positives + ½) / (n + 1), and the log says so. (MultiOutputRegressor, with XGBoost 3.2, answers it with 1e-6 or
    1 − 1e-6, however few the rows; earlier releases refuse it.)
    """

    def __init__(
        self,
        *,
        features: str = "all",
        n_estimators: int = 50,
        max_depth: int = 4,
        learning_rate: float = 0.1,
        subsample: float = 1,
        colsample_bytree: float = 1,
        min_child_weight: float = 1,
        reg_lambda: float = 1,
        device: str = "cpu",
        seed: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.features = features
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.device = device
        self.seed = seed
        self.n_jobs = n_jobs

    def fit(self, cube: ArrayLike, Y: ArrayLike, *, progress: str = "") -> XGBoostStacker:
        """Train on a cube [n, n_models, n_labels] and answers 0/1 [n, n_labels].

        Sets ``boosters_`` (label → Booster), ``constants_`` (label → probability) and ``shape_`` (n_models, n_labels).
        Raises ``ValueError`` that names the argument on input or parameters that do not fit.
        """
        import xgboost

        params.XGBoostStacker(**self._params())
        values = check_cube(cube)
        answers = check_answers(Y, (values.shape[0], values.shape[2]))
        self.shape_ = (values.shape[1], values.shape[2])
        self.constants_ = _constants(answers)
        self.boosters_: dict[int, Any] = {}
        settings = self._booster_params()
        columns = _Columns(values, self.features)
        labels = [label for label in range(values.shape[2]) if label not in self.constants_]
        shared = None
        for label in bar(labels, desc=f"XGBoost stacker {progress}".strip(), unit="label"):
            if shared is None or self.features != "all":
                shared = xgboost.QuantileDMatrix(columns.of(label), nthread=self.n_jobs)
            shared.set_label(answers[:, label].astype(np.float32))
            self.boosters_[label] = xgboost.train(settings, shared, num_boost_round=self.n_estimators)
        return self

    def predict_proba(self, cube: ArrayLike) -> NDArray[np.float32]:
        """Probabilities float32 [n, n_labels] for a cube with the models and labels of the fit."""
        import xgboost

        check_is_fitted(self, "boosters_")
        values = check_cube(cube, fitted=self.shape_)
        probability = np.empty((len(values), self.shape_[1]), np.float32)
        columns = _Columns(values, self.features)
        shared = None
        for label in range(self.shape_[1]):
            if label in self.constants_:
                probability[:, label] = self.constants_[label]
                continue
            if shared is None or self.features != "all":
                shared = xgboost.DMatrix(columns.of(label), nthread=self.n_jobs)
            probability[:, label] = self.boosters_[label].predict(shared)
        return probability

    def save(self, directory: str | Path) -> None:
        """Write ``boosters.zip`` (one ``.ubj`` for each label) and ``config.json``; equal stackers give equal bytes."""
        check_is_fitted(self, "boosters_")
        with replacing_dir(directory) as temporary:
            files = {f"label-{label:05d}.ubj": raw for label, raw in self._raw().items()}
            write_archive(temporary / "boosters.zip", files)
            write_json(temporary / "config.json", self._config())

    @classmethod
    def load(cls, directory: str | Path) -> XGBoostStacker:
        """Read what ``save`` wrote; raise ``UserError`` when it is something else."""
        import xgboost

        directory = Path(directory)
        config = read_json(directory / "config.json")
        try:
            stacker = cls(**config["params"])
            stacker.shape_ = (int(config["n_models"]), int(config["n_labels"]))
            stacker.constants_ = {int(label): float(value) for label, value in config["constants"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{directory}/config.json: not a saved XGBoost stacker ({error})") from None
        files = read_archive(directory / "boosters.zip")
        stacker.boosters_ = {}
        for label in range(stacker.shape_[1]):
            if label in stacker.constants_:
                continue
            name = f"label-{label:05d}.ubj"
            try:
                stacker.boosters_[label] = xgboost.Booster(model_file=bytearray(files[name]))
            except (KeyError, xgboost.core.XGBoostError) as error:
                raise UserError(f"{directory}/boosters.zip: {name} is absent or damaged ({error})") from None
        return stacker

    def digest(self) -> str:
        """SHA-256 in hex over parameters, shape, constants and boosters."""
        check_is_fitted(self, "boosters_")
        digest = hashlib.sha256(json.dumps(self._config(), sort_keys=True).encode())
        for raw in self._raw().values():
            digest.update(hashlib.sha256(raw).digest())
        return digest.hexdigest()

    def _params(self) -> dict[str, Any]:
        """What decides the result: all but the number of threads."""
        return {name: value for name, value in self.get_params().items() if name != "n_jobs"}

    def _booster_params(self) -> dict[str, Any]:
        import xgboost

        own = self._params()
        for name in ("features", "seed"):
            own.pop(name)
        regressor = xgboost.XGBRegressor(
            objective="binary:logistic", tree_method="hist", random_state=self.seed, n_jobs=self.n_jobs, **own
        )
        return dict(regressor.get_xgb_params())

    def _raw(self) -> dict[int, bytes]:
        return {label: bytes(booster.save_raw("ubj")) for label, booster in self.boosters_.items()}

    def _config(self) -> dict[str, Any]:
        return {
            "kind": "xgboost",
            "n_models": self.shape_[0],
            "n_labels": self.shape_[1],
            "params": self._params(),
            "constants": {str(label): value for label, value in self.constants_.items()},
        }


class _Columns:
    """What the trees of a label see of the cube, float32 [n, n_features]."""

    def __init__(self, cube: NDArray[np.float32], features: str) -> None:
        self.cube, self.features = cube, features
        self.context = cube.mean(axis=1) if features == "own+context" else None

    def of(self, label: int) -> NDArray[np.float32]:
        if self.features == "all":
            return self.cube.reshape(len(self.cube), -1)
        own = np.ascontiguousarray(self.cube[:, :, label])
        return own if self.context is None else np.hstack([own, self.context])


def _constants(answers: NDArray[np.bool_]) -> dict[int, float]:
    n, positives = len(answers), answers.sum(axis=0)
    constants = {int(j): float((positives[j] + 0.5) / (n + 1)) for j in np.flatnonzero(positives % n == 0)}
    if constants:
        shown = ", ".join(str(label) for label in list(constants)[:10])
        log.warning("XGBoost stacker: %d label(s) are constant here, answered with a prior: %s", len(constants), shown)
    return constants
