"""Where the residual network begins: logits of a cheap regression, for the rows it was fitted on as if left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from threadpoolctl import threadpool_limits

from labelstack.stacking.stackers.linear import LogisticStacker
from labelstack.stacking.stackers.logit_features import Context, LogitColumns, SharedColumns, own_inputs, rivals
from labelstack.support.cores import in_threads

Floats = NDArray[np.float64]
_SMALL = 1e-7  # strength that leaves no label weights of its own
_FARTHEST = 13.8  # left-out logits lie within ±13.8, those of one in a million


def fit_start(kind: str, cube: NDArray[np.float32], targets: NDArray[np.float32], progress: str) -> LogisticStacker:
    """A fitted regression.

    ``logistic``: ``LogisticStacker`` with its defaults. ``mean``: one weight for each model, shared by all labels, and
    each label's prior. ``prior``: the prior of each label alone.
    """
    if kind == "logistic":
        return LogisticStacker().fit(cube, targets, progress=progress)
    start = LogisticStacker(rivals=False, context=0, strength=_SMALL).fit(cube, targets, progress=progress)
    if kind == "prior":
        start.arrays_["weights"][:] = 0
        start.arrays_["weights"][:, -1] = start.arrays_["prior"]
    return start


def start_logits(start: LogisticStacker, cube: NDArray[np.float32]) -> Floats:
    """Logits [n, n_labels] of the regression, whose logistic function is what it answers."""
    with threadpool_limits(1, user_api="blas"):  # the same sums in the same order, however many cores
        own, context = _columns(start, cube)
        return _linear(start, own, context)


def left_out_logits(start: LogisticStacker, cube: NDArray[np.float32], targets: NDArray[np.float32]) -> Floats:
    """Logits [n, n_labels] of the rows of the fit, each as by a fit without it, to first order.

    A correction learned on logits that know the row's own answer would trust them too much. One Newton step away from
    the fit of all rows, in closed form (Rad & Maleki 2020).
    """
    with threadpool_limits(1, user_api="blas"):
        own, context = _columns(start, cube)
        eta = _linear(start, own, context)
        mean = expit(eta)
        slope = mean * (1 - mean)
        leverage = np.empty_like(eta)
        columns = LogitColumns(own, None if context is None else SharedColumns(context))
        strength, weight = start.arrays_["chosen"]
        penalty = start._penalty(columns, strength, max(weight, 1e-3))

        def one(labels: slice) -> None:
            x = columns.of(labels)
            inverse = np.linalg.inv(x.gram(slope.T[labels], True) + np.diag(penalty))
            leverage[:, labels] = x.leverage((inverse + inverse.transpose(0, 2, 1)) / 2).T

        in_threads(one, list(columns.blocks()))
        eta += leverage * (mean - targets) / np.maximum(1 - slope * leverage, 1e-3)
        return np.clip(eta, -_FARTHEST, _FARTHEST)


def _columns(start: LogisticStacker, cube: NDArray[np.float32]) -> tuple[NDArray[np.float32], Floats | None]:
    """Columns of each label's own [n_labels, n, width], and those that labels share [n, rank]."""
    arrays = start.arrays_
    own = own_inputs(cube, start.inputs, start.clip)
    own /= arrays["scale"].astype(np.float32)
    z = start._first_logits(cube, own, arrays)
    if start.rivals:
        own = np.concatenate([own, rivals(z) / arrays["rival_scale"].astype(np.float32)], axis=2)
    if "directions" not in arrays:
        return own, None
    return own, Context(arrays["context_mean"], arrays["context_scale"], arrays["directions"])(z)


def _linear(start: LogisticStacker, own: NDArray[np.float32], context: Floats | None) -> Floats:
    W, width = start.arrays_["weights"], own.shape[2]
    eta = np.stack([each @ W[label, :width] for label, each in enumerate(own)], axis=1) + W[:, -1]
    return np.asarray(eta if context is None else eta + context @ W[:, width:-1].T)
