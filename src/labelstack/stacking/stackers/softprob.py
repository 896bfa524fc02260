"""Gradient-boosted trees with one softmax over all labels, for labels of which exactly one is true."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.stacking.stackers.array_stacker import Arrays, ArrayStacker

_LEAST = 1e-4  # a probability is no smaller in a margin


class SoftprobStacker(ArrayStacker):
    """XGBoost with objective ``multi:softprob`` and tree method ``hist``: one booster that corrects the models' mean.

    The trees see every model's probability of every label; they begin with the logarithm of the mean. A row with soft
    labels learns its largest. Fitted with one thread, so that the result does not depend on the machine's cores.

    Parameters
    ----------
    n_estimators, max_depth, learning_rate, subsample, colsample_bytree, min_child_weight, reg_lambda : as in XGBoost
    seed : of the subsampling
    """

    kind = "softprob"

    def __init__(
        self,
        *,
        n_estimators: int = 50,
        max_depth: int = 3,
        learning_rate: float = 0.05,
        subsample: float = 0.8,
        colsample_bytree: float = 0.5,
        min_child_weight: float = 5,
        reg_lambda: float = 1,
        seed: int = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.seed = seed

    def _learn(self, cube: NDArray[np.float32], targets: NDArray[np.float32], progress: str) -> Arrays:
        import xgboost

        rows = np.flatnonzero(targets.max(axis=1) > 0)
        cube, n_labels = cube[rows], targets.shape[1]
        data = xgboost.DMatrix(cube.reshape(len(cube), -1), targets[rows].argmax(axis=1), nthread=1)
        data.set_base_margin(_margin(cube))
        settings = {name: value for name, value in self.get_params().items() if name != "n_estimators"}
        settings |= {"objective": "multi:softprob", "num_class": n_labels, "tree_method": "hist", "nthread": 1}
        booster = xgboost.train(settings, data, self.n_estimators)
        return {"booster": np.frombuffer(bytes(booster.save_raw("ubj")), np.uint8)}

    def _answer(self, cube: NDArray[np.float32], arrays: Arrays) -> NDArray[np.floating[Any]]:
        import xgboost

        booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(arrays["booster"].tobytes()))
        data = xgboost.DMatrix(cube.reshape(len(cube), -1), nthread=1)
        data.set_base_margin(_margin(cube))
        found: NDArray[np.floating[Any]] = booster.predict(data).reshape(len(cube), -1)
        return found


def _margin(cube: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithm of the models' mean [n, n_labels]."""
    return np.log(np.maximum(cube.mean(axis=1, dtype=np.float64), _LEAST)).astype(np.float32)
