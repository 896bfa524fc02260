"""Linear stackers: one penalised regression per label that leans on a regression shared by all labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from labelstack.stacking.stackers.array_stacker import Arrays, ArrayStacker
from labelstack.stacking.stackers.logit_features import (
    Context,
    Floats,
    LogitColumns,
    SharedColumns,
    logits,
    own_inputs,
    rivals,
    spread,
)
from labelstack.stacking.stackers.newton import LOGISTIC, SQUARED, Family, fit_labels, fit_shared, leave_one_out
from labelstack.stacking.stackers.recent_fits import RecentFits
from labelstack.support.cores import cores
from labelstack.support.progress import bar

_STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_CONTEXTS = (0.1, 0.5)  # tried beside 0.25
_CHOICE_ROWS, _CHOICE_LABELS = 3000, 128  # that a strength is chosen on; it tells how labels differ, not how many
_FIRST_STEPS, _CHOICE_STEPS = 10, 4  # Newton steps, from zero and from the weights of the neighbouring strength
_FEW_CELLS = 100_000  # images × labels on which weights that all labels share are found roughly
log = logging.getLogger(__name__)
_RECENT = RecentFits()
_T = TypeVar("_T")


class _LinearStacker(ArrayStacker):
    """Both linear stackers; they differ in the loss."""

    family: ClassVar[Family]

    def __init__(
        self,
        *,
        inputs: str,
        pooled: bool,
        rivals: bool,
        context: float | None,
        context_rank: int,
        strength: float | None,
        clip: float,
        rows: int | None,
    ) -> None:
        self.rows = rows
        self.inputs = inputs
        self.pooled = pooled
        self.rivals = rivals
        self.context = context
        self.context_rank = context_rank
        self.strength = strength
        self.clip = clip

    def _learn(self, cube: NDArray[np.float32], targets: NDArray[np.float32], progress: str) -> Arrays:
        def fit() -> Arrays:
            with threadpool_limits(1, user_api="blas"):  # the same sums in the same order, however many cores
                return self._fit(cube, np.ascontiguousarray(targets.T, np.float64), progress)

        return _RECENT.get({"kind": self.kind, **self.get_params()}, [cube, targets], fit)

    def _fit(self, cube: NDArray[np.float32], Y: Floats, progress: str) -> Arrays:
        own = own_inputs(cube, self.inputs, self.clip)
        arrays: Arrays = {"scale": spread(own), "prior": self._link(_priors(Y))}
        own /= arrays["scale"].astype(np.float32)
        if self.pooled:
            arrays["first"] = self._pool(own, Y, arrays)
        z = self._first_logits(cube, own, arrays)
        if self.rivals:
            extra = rivals(z)
            arrays["rival_scale"] = spread(extra)
            extra /= arrays["rival_scale"].astype(np.float32)
            own = np.concatenate([own, extra], axis=2)
            del extra
        centre = self._pool(own, Y, arrays) if self.pooled else np.zeros(own.shape[2] + 2)
        shared = None
        if self.context != 0:
            learnt = Context.of(z, self.context_rank)
            arrays |= {"context_mean": learnt.mean, "context_scale": learnt.scale, "directions": learnt.directions}
            shared = SharedColumns(learnt(z))
        columns = LogitColumns(own, shared)
        offsets = _shared_part(own, centre, arrays["prior"])
        deviations, chosen = self._deviations(columns, Y, offsets, progress)
        arrays["weights"] = _added(deviations, centre, arrays["prior"])
        arrays["chosen"] = np.array(chosen)
        if not self.pooled:
            constant = Y.min(axis=1) == Y.max(axis=1)  # nothing to learn, and no penalty on the constant
            arrays["weights"][constant] = 0
            arrays["weights"][constant, -1] = arrays["prior"][constant]
        return arrays

    def _pool(self, own: NDArray[np.float32], Y: Floats, arrays: Arrays) -> Floats:
        """Weights [columns + 2] shared by all labels, the last two for the label's prior and the constant.

        A weak penalty draws them to equal weights for the models, which matters for few rows only.
        """
        centre = np.zeros(own.shape[2] + 2)
        centre[: len(arrays["scale"])] = arrays["scale"] / len(arrays["scale"])
        penalty = np.ones(len(centre))

        def pieces(every: int) -> list[Callable[[], tuple[Floats, Floats]]]:
            some = own[:, ::every]

            def piece(labels: slice) -> tuple[Floats, Floats]:
                x = np.ones((*some[labels].shape[:2], len(centre)))
                x[:, :, :-2] = some[labels]
                x[:, :, -2] = arrays["prior"][labels, None]
                return x, Y[labels, ::every]

            return [partial(piece, labels) for labels in LogitColumns(some).blocks()]

        start = None
        if Y.size > _FEW_CELLS:  # most of the way on some of the images
            start = fit_shared(pieces(-(-Y.size // _FEW_CELLS)), penalty, centre, self.family, tolerance=1e-3)
        return fit_shared(pieces(1), penalty, centre, self.family, start=start)

    def _first_logits(self, cube: NDArray[np.float32], own: NDArray[np.float32], arrays: Arrays) -> Floats:
        """Logits [n, n_labels] that say what the image's labels are before any label has weights of its own."""
        if "first" not in arrays:
            return np.asarray(logits(cube, self.clip).mean(axis=1, dtype=np.float64))
        eta = _shared_part(own, arrays["first"], arrays["prior"]).T
        if self.family is LOGISTIC:
            return eta
        return np.asarray(logits(eta.astype(np.float32), self.clip), np.float64)

    def _deviations(
        self, columns: LogitColumns, Y: Floats, offsets: Floats, progress: str
    ) -> tuple[Floats, list[float]]:
        """Each label's own weights [n_labels, width] beside the shared ones; strength and context that were used."""
        strength, context = self.strength, self.context
        start = None
        if strength is None or context is None:
            strength, context, start = self._choose(columns, Y, offsets, progress)
        penalty = self._penalty(columns, strength, context)

        def fit(labels: slice) -> Floats:
            begin = None if start is None else start[labels]
            return fit_labels(columns.of(labels), Y[labels], penalty, offsets[labels], self.family, start=begin)

        found = _each(fit, list(columns.blocks()), f"{self.kind} stacker {progress}".strip())
        return np.concatenate(found), [strength, context]

    def _choose(
        self, columns: LogitColumns, Y: Floats, offsets: Floats, progress: str
    ) -> tuple[float, float, Floats | None]:
        """Strength and weight of the context with the least approximate leave-one-out loss; weights to start from."""
        part = (slice(None, None, -(-len(Y) // _CHOICE_LABELS)), slice(None, None, -(-Y.shape[1] // _CHOICE_ROWS)))
        some, y, o = columns.some(*part), Y[part], offsets[part]
        if y.size < Y.size:
            sizes = (*y.shape, *Y.shape)
            log.info("%s stacker: strength chosen on %d labels × %d images of %d × %d", self.kind, *sizes)
        best: tuple[float, float, float, Floats | None] = (np.inf, 0.0, 0.0, None)

        def loss(strength: float, context: float) -> float:
            nonlocal best
            penalty, start = self._penalty(some, strength, context), best[3]

            def one(labels: slice) -> tuple[Floats, float]:
                x, begin = some.of(labels), None if start is None else start[labels]
                steps = _FIRST_STEPS if begin is None else _CHOICE_STEPS
                W = fit_labels(x, y[labels], penalty, o[labels], self.family, start=begin, steps=steps, tolerance=1e-3)
                return W, float(leave_one_out(x, y[labels], penalty, o[labels], W, self.family).sum())

            parts = _each(one, list(some.blocks()), f"{self.kind} strength {progress}".strip())
            total = sum(part for _, part in parts)
            if total < best[0]:
                best = (total, strength, context, np.concatenate([W for W, _ in parts]))
            return total

        context = 0.25 if self.context is None else self.context
        strengths = _STRENGTHS if self.strength is None else (self.strength,)
        _descend(strengths, lambda strength: loss(strength, context))
        if self.context is None and columns.shared is not None:
            strength = best[1]
            for other in _CONTEXTS:
                loss(strength, other)
        return best[1], best[2], best[3] if len(y) == len(Y) else None

    def _penalty(self, columns: LogitColumns, strength: float, context: float) -> Floats:
        penalty = np.full(columns.width, 1 / strength)
        if columns.shared is not None:
            penalty[columns.own.shape[2] : -1] = 1 / (strength * context**2)
        if not self.pooled:
            penalty[-1] = 0
        return penalty

    def _answer(self, cube: NDArray[np.float32], arrays: Arrays) -> NDArray[np.floating[Any]]:
        with threadpool_limits(1, user_api="blas"):
            own = own_inputs(cube, self.inputs, self.clip)
            own /= arrays["scale"].astype(np.float32)
            z = self._first_logits(cube, own, arrays)
            if self.rivals:
                own = np.concatenate([own, rivals(z) / arrays["rival_scale"].astype(np.float32)], axis=2)
            W, width = arrays["weights"], own.shape[2]
            eta = np.stack([own[label] @ W[label, :width] for label in range(len(own))], axis=1) + W[:, -1]
            if "directions" in arrays:
                context = Context(arrays["context_mean"], arrays["context_scale"], arrays["directions"])
                eta = eta + context(z) @ W[:, width:-1].T
            return np.asarray(self.family.mean(eta))

    def _link(self, p: Floats) -> Floats:
        return np.log(p / (1 - p)) if self.family is LOGISTIC else p


class LogisticStacker(_LinearStacker):
    """Logistic regression of each label on the logits of its own models, leaning on weights shared by all labels.

    A label's logit is x · (u + d). The weights u are fitted to all labels at once, the deviation d to the label alone,
    drawn to 0 by a ridge penalty: a label with many positives gets weights of its own, one with few or none those of
    all labels. x holds the own logits, how strong the image's other labels are (``rivals``) and the standardised logits
    of all labels (``context``), both by a first regression that all labels share.

    With ``pooled=False, rivals=False, context=0`` this is scikit-learn's ``LogisticRegression(C=strength)`` on the own
    logits divided by each model's standard deviation.

    Parameters
    ----------
    inputs : what is seen of the own models: ``logit``, ``probability`` or ``both``
    pooled : whether labels lean on shared weights
    rivals : whether a label sees the strength of the image's other labels
    context : weight of the logits of all labels against the own ones, 0 for none; None: 0.1, 0.25 or 0.5 is chosen
    context_rank : with more labels than this, the context is cut down to so many directions
    strength : variance allowed to weights, scikit-learn's C; None: one of 0.0003 … 3 is chosen
    clip : probabilities are clipped to clip … 1 − clip before logits are taken
    rows : images that are learnt from at most, drawn from those of the fit; None: all

    Notes
    -----
    What is None is chosen in the fit by the approximate leave-one-out loss over all labels; of more than 3,000 images
    or 128 labels every second, third, … takes part in that. Soft targets count by their mass. A label that is constant
    gets, without ``pooled``, the probability (positives + ½) / (n + 1).
    """

    kind = "logistic"
    family = LOGISTIC

    def __init__(
        self,
        *,
        inputs: str = "logit",
        pooled: bool = True,
        rivals: bool = True,
        context: float | None = None,
        context_rank: int = 40,
        strength: float | None = None,
        clip: float = 1e-3,
        rows: int | None = None,
    ) -> None:
        super().__init__(
            inputs=inputs,
            pooled=pooled,
            rivals=rivals,
            context=context,
            context_rank=context_rank,
            strength=strength,
            clip=clip,
            rows=rows,
        )


class RidgeStacker(_LinearStacker):
    """Ridge regression of each label on its own models' probabilities; otherwise as ``LogisticStacker``.

    With ``pooled=False, rivals=False, context=0`` this is scikit-learn's ``Ridge(alpha=1 / strength)`` on the inputs
    divided by each model's standard deviation. Leave-one-out losses are exact. Answers are clipped to 0 … 1.
    """

    kind = "ridge"
    family = SQUARED

    def __init__(
        self,
        *,
        inputs: str = "probability",
        pooled: bool = True,
        rivals: bool = False,
        context: float | None = 0.0,
        context_rank: int = 40,
        strength: float | None = None,
        clip: float = 1e-3,
        rows: int | None = None,
    ) -> None:
        super().__init__(
            inputs=inputs,
            pooled=pooled,
            rivals=rivals,
            context=context,
            context_rank=context_rank,
            strength=strength,
            clip=clip,
            rows=rows,
        )


def _priors(Y: Floats) -> Floats:
    return np.asarray((Y.sum(axis=1) + 0.5) / (Y.shape[1] + 1))


def _shared_part(own: NDArray[np.float32], weights: Floats, prior: Floats) -> Floats:
    """Linear predictor [n_labels, n] of weights [columns + 2] that all labels share."""
    eta = np.stack([each @ weights[:-2] for each in own])
    return np.asarray(eta + (weights[-2] * prior + weights[-1])[:, None])


def _added(deviations: Floats, centre: Floats, prior: Floats) -> Floats:
    """Deviations [n_labels, width] with the shared weights, which have no context, added."""
    weights = deviations.copy()
    weights[:, : len(centre) - 2] += centre[:-2]
    weights[:, -1] += centre[-2] * prior + centre[-1]
    return weights


def _descend(values: Sequence[float], loss: Callable[[float], float]) -> None:
    """Call a loss that falls, then rises, along the values, from the middle one on until it is past its minimum."""
    start = at = len(values) // 2
    least = loss(values[at])
    for direction in (1, -1):
        if at != start:
            return
        while 0 <= at + direction < len(values) and (new := loss(values[at + direction])) < least:
            at, least = at + direction, new


def _each(work: Callable[[slice], _T], blocks: list[slice], description: str) -> list[_T]:
    """Results of all blocks in their order, computed on all cores."""
    if cores() < 2:
        return list(bar(map(work, blocks), total=len(blocks), desc=description, unit="block"))
    with ThreadPoolExecutor(cores()) as pool:
        return list(bar(pool.map(work, blocks), total=len(blocks), desc=description, unit="block"))
