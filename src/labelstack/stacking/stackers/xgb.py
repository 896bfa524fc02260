"""The XGBoost stacker: one booster of gradient-boosted trees for each label."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from labelstack.params.stackers import XGBoostStackerSection
from labelstack.stacking.array_checks import check_cube, check_targets
from labelstack.stacking.sampling import some_rows
from labelstack.stacking.stackers.xgb_features import TreeColumns, fit_base, related_labels
from labelstack.stacking.stackers.xgb_training import TreeTraining, each_label, thread_count
from labelstack.support.archive import read_archive, write_archive
from labelstack.support.errors import UserError
from labelstack.support.storage import read_json, replacing_dir, write_json

log = logging.getLogger(__name__)


class XGBoostStacker(BaseEstimator):  # type: ignore[misc]
    """Boosted trees with objective ``binary:logistic`` and tree method ``hist``, one booster a label.

    With ``features="all"`` this is scikit-learn's ``MultiOutputRegressor(XGBRegressor(…))`` with that objective on the
    flattened cube, to the last bit; only, the columns are binned once for all labels. Labels are trained in parallel,
    each booster by one thread.

    Parameters
    ----------
    features : what the trees of a label see: ``all`` (every model's probability of every label), ``own`` (every model's
        probability of that label), ``own+context`` (that, and the models' mean probability of every label) or
        ``own+top_k`` (that, and the models' mean of that label and of the ``top_k`` others that say most about it)
    top_k : how many others; chosen in the fit, from its own rows, by partial correlation with the answers
    base : what the trees correct: ``prior`` (the label's frequency) or ``mean`` (the models' mean, calibrated by slope
        and shift)
    n_estimators, max_depth, learning_rate, subsample, colsample_bytree, min_child_weight, reg_lambda : as in XGBoost
    early_stopping_rounds : None to grow ``n_estimators`` trees; or stop a label after so many rounds without gain on a
        held-out part of the rows fitted, and train it anew on all of them with the number of rounds that was best
    holdout : share of a label's positives and of its negatives that is held out
    min_positives : a label with fewer positives or fewer negatives gets no trees
    device : ``cpu`` or ``cuda``; the latter needs a build of XGBoost for GPUs, and trains one label at a time
    seed : of the subsampling and of held-out rows
    rows : images that are learnt from at most, drawn from those of the fit; None: all
    n_jobs : labels trained at a time, None for one on each core; does not change the result

    Notes
    -----
    A label that is always or never true in the rows fitted has nothing to learn from. It is answered with the constant
    (positives + ½) / (n + 1). A label with fewer than ``min_positives`` is answered with that, or with its base
    ``mean``. The log names both. (MultiOutputRegressor, with XGBoost 3.2, answers a constant label with 1e-6 or
    1 − 1e-6, however few the rows; earlier releases refuse it.)

    Soft labels are targets of the cross-entropy; where positives are counted, a label counts as true from one half.
    """

    def __init__(
        self,
        *,
        features: str = "own+top_k",
        top_k: int = 16,
        base: str = "prior",
        n_estimators: int = 50,
        max_depth: int = 4,
        learning_rate: float = 0.1,
        subsample: float = 1,
        colsample_bytree: float = 1,
        min_child_weight: float = 1,
        reg_lambda: float = 1,
        early_stopping_rounds: int | None = None,
        holdout: float = 0.2,
        min_positives: int = 2,
        device: str = "cpu",
        seed: int = 0,
        rows: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.rows = rows
        self.features = features
        self.top_k = top_k
        self.base = base
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.early_stopping_rounds = early_stopping_rounds
        self.holdout = holdout
        self.min_positives = min_positives
        self.device = device
        self.seed = seed
        self.n_jobs = n_jobs

    def fit(self, cube: ArrayLike, Y: ArrayLike, *, progress: str = "") -> XGBoostStacker:
        """Train on a cube [n, n_models, n_labels] and answers [n, n_labels], 0/1 or soft.

        Sets ``boosters_`` (label → Booster), ``constants_`` (label → probability), ``related_`` (int64 [n_labels, k],
        for ``own+top_k``), ``base_`` (float32 [n_labels, 2], slope and shift, or None) and ``shape_`` (n_models,
        n_labels). Raises ``ValueError`` that names the argument on input or parameters that do not fit.
        """
        XGBoostStackerSection(**self._params())
        values = check_cube(cube)
        targets = check_targets(Y, (values.shape[0], values.shape[2]))
        some = some_rows(len(values), self.rows)
        values, targets = values[some], targets[some]
        n_labels = values.shape[2]
        self.shape_ = (values.shape[1], n_labels)
        self.related_ = related_labels(values, targets, self.top_k if self.features == "own+top_k" else 0)
        self.base_ = fit_base(values, targets) if self.base == "mean" else None
        self.constants_, rare = self._without_trees(targets)
        labels = [label for label in range(n_labels) if label not in self.constants_ and label not in rare]
        threads = 1 if self.device == "cuda" else thread_count(self.n_jobs)
        training = TreeTraining(
            self._booster_params(), self.n_estimators, self.early_stopping_rounds, self.holdout, self.seed, threads
        )
        self.boosters_ = training.boosters(
            self._columns(values), targets, labels, f"XGBoost stacker {progress}".strip()
        )
        return self

    def predict_proba(self, cube: ArrayLike) -> NDArray[np.float32]:
        """Probabilities float32 [n, n_labels] for a cube with the models and labels of the fit."""
        check_is_fitted(self, "boosters_")
        values = check_cube(cube, fitted=self.shape_)
        probability = np.empty((len(values), self.shape_[1]), np.float32)
        columns = self._columns(values)

        def answer(label: int) -> None:
            if label in self.constants_:
                probability[:, label] = self.constants_[label]
            elif label in self.boosters_:
                probability[:, label] = self.boosters_[label].inplace_predict(
                    columns.of(label), base_margin=columns.margin(label)
                )
            else:
                probability[:, label] = expit(columns.margin(label))

        for _ in each_label(answer, range(self.shape_[1]), thread_count(self.n_jobs), "XGBoost stacker predicts"):
            pass
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
        directory = Path(directory)
        config = read_json(directory / "config.json")
        try:
            stacker = cls(**config["params"])
            stacker.shape_ = (int(config["n_models"]), int(config["n_labels"]))
            stacker.constants_ = {int(label): float(value) for label, value in config["constants"].items()}
            stacker.related_ = np.array(config["related"], np.int64).reshape(stacker.shape_[1], -1)
            stacker.base_ = None if config["base"] is None else np.array(config["base"], np.float32).reshape(-1, 2)
            labels = [int(label) for label in config["boosters"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{directory}/config.json: not a saved XGBoost stacker ({error})") from None
        files = read_archive(directory / "boosters.zip")
        stacker.boosters_ = {label: _booster(directory / "boosters.zip", files, label) for label in labels}
        return stacker

    def digest(self) -> str:
        """SHA-256 in hex over parameters, shape, constants, features and boosters."""
        check_is_fitted(self, "boosters_")
        digest = hashlib.sha256(json.dumps(self._config(), sort_keys=True).encode())
        for raw in self._raw().values():
            digest.update(hashlib.sha256(raw).digest())
        return digest.hexdigest()

    def _params(self) -> dict[str, Any]:
        """What decides the result: all but the number of threads; ``rows`` where there is a limit."""
        params: dict[str, Any] = self.get_params()
        return {name: value for name, value in params.items() if name != "n_jobs" and (name, value) != ("rows", None)}

    def _booster_params(self) -> dict[str, Any]:
        import xgboost

        named = ("n_estimators", "max_depth", "learning_rate", "subsample", "colsample_bytree", "min_child_weight")
        regressor = xgboost.XGBRegressor(
            objective="binary:logistic",
            tree_method="hist",
            random_state=self.seed,
            n_jobs=1,
            **{name: getattr(self, name) for name in (*named, "reg_lambda", "device")},
        )
        return dict(regressor.get_xgb_params())

    def _columns(self, cube: NDArray[np.float32]) -> TreeColumns:
        return TreeColumns(cube, self.features, self.related_, self.base_)

    def _without_trees(self, targets: NDArray[np.float32]) -> tuple[dict[int, float], set[int]]:
        """Constants of labels without trees, and the labels that get their base instead; the log names both."""
        n, mass = len(targets), targets.sum(axis=0, dtype=np.float64)
        positives = (targets >= 0.5).sum(axis=0)
        constant = set(np.flatnonzero((mass == 0) | (mass == n)).tolist())
        rare = set(np.flatnonzero(np.minimum(positives, n - positives) < self.min_positives).tolist()) - constant
        _say(constant, "are constant here, answered with a prior")
        answer = "a prior" if self.base_ is None else "the calibrated mean of the models"
        _say(rare, f"have fewer than {self.min_positives} positives or negatives here, answered with {answer}")
        priors = constant | rare if self.base_ is None else constant
        return {label: float((mass[label] + 0.5) / (n + 1)) for label in sorted(priors)}, rare - priors

    def _raw(self) -> dict[int, bytes]:
        return {label: bytes(booster.save_raw("ubj")) for label, booster in self.boosters_.items()}

    def _config(self) -> dict[str, Any]:
        return {
            "kind": "xgboost",
            "n_models": self.shape_[0],
            "n_labels": self.shape_[1],
            "params": self._params(),
            "constants": {str(label): value for label, value in self.constants_.items()},
            "related": self.related_.tolist(),
            "base": None if self.base_ is None else self.base_.tolist(),
            "boosters": list(self.boosters_),
        }


def _booster(path: Path, files: dict[str, bytes], label: int) -> Any:
    import xgboost

    name = f"label-{label:05d}.ubj"
    try:
        booster = xgboost.Booster(model_file=bytearray(files[name]))
    except (KeyError, xgboost.core.XGBoostError) as error:
        raise UserError(f"{path}: {name} is absent or damaged ({error})") from None
    booster.set_param({"nthread": 1})
    return booster


def _say(labels: set[int], what: str) -> None:
    if labels:
        shown = ", ".join(str(label) for label in sorted(labels)[:10])
        log.warning("XGBoost stacker: %d label(s) %s: %s", len(labels), what, shown)
