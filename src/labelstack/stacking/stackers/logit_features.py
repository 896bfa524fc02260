"""What the linear stackers see of a cube: logits of a label's own models, the image's other labels, the context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from labelstack.stacking.cells import row_blocks

Floats = NDArray[np.float64]
_PRODUCTS = 50_000_000  # numbers kept of products of shared columns
_FARTHEST = 12.0  # logits of combined probabilities are cut off at ±12


def logits(P: NDArray[np.float32], clip: float) -> NDArray[np.float32]:
    """log(p / (1 − p)) of probabilities that are first clipped to clip … 1 − clip, float32."""
    clipped = np.clip(P, np.float32(clip), np.float32(1 - clip))
    return np.log(clipped / (1 - clipped))


def own_inputs(cube: NDArray[np.float32], inputs: str, clip: float) -> NDArray[np.float32]:
    """Own columns of each label, float32 [n_labels, n, n_models], twice as many for ``inputs="both"``."""
    n, n_models, n_labels = cube.shape
    seen: list[Callable[[NDArray[np.float32]], NDArray[np.float32]]] = []
    if inputs in {"logit", "both"}:
        seen.append(partial(logits, clip=clip))
    if inputs in {"probability", "both"}:
        seen.append(lambda p: p)
    own = np.empty((n_labels, n, n_models * len(seen)), np.float32)
    for rows in row_blocks(n, n_models * n_labels):
        for i, of in enumerate(seen):
            own[:, rows, i * n_models : (i + 1) * n_models] = of(cube[rows]).transpose(2, 0, 1)
    return own


def spread(columns: NDArray[np.float32]) -> Floats:
    """Standard deviation of each column [n_labels, n, columns] over labels and images, float64, and a little more."""
    n_labels, n, width = columns.shape
    mean = columns.sum(axis=(0, 1), dtype=np.float64) / (n_labels * n)
    squares = np.zeros(width)
    for labels in row_blocks(n_labels, n * width):
        apart = columns[labels] - mean
        squares += np.multiply(apart, apart, out=apart).sum(axis=(0, 1))
    return np.sqrt(squares / (n_labels * n)) + 1e-6


def rivals(z: Floats) -> NDArray[np.float32]:
    """How strong the other labels of an image are, float32 [n_labels, n, 3].

    For each image and label, over the other labels' logits z: log Σ exp z, the largest z, log Σ p.
    """
    n, n_labels = z.shape
    found = np.zeros((n_labels, n, 3), np.float32)
    if n_labels == 1:
        return found
    for rows in row_blocks(n, n_labels):
        part = np.clip(z[rows], -_FARTHEST, _FARTHEST)
        odds = np.exp(part)
        p = odds / (1 + odds)
        order = np.partition(part, n_labels - 2, axis=1)
        largest = np.where(part == order[:, -1:], order[:, -2:-1], order[:, -1:])
        for column, values in enumerate((_log_of_others(odds), largest, _log_of_others(p))):
            found[:, rows, column] = values.T
    return found


def _log_of_others(values: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(values.sum(axis=1, keepdims=True) - values, 1e-4)))


@dataclass(frozen=True)
class Context:
    """Standardised logits of all labels, turned into their ``rank`` strongest directions where there are more labels.

    The directions keep their length, so a ridge penalty treats strong ones as it would treat the labels themselves.
    """

    mean: Floats
    scale: Floats
    directions: Floats  # [n_labels, rank]

    @classmethod
    def of(cls, z: Floats, rank: int) -> Context:
        """Learn from logits [n, n_labels]."""
        z = np.clip(z, -_FARTHEST, _FARTHEST)
        mean, scale = z.mean(axis=0), z.std(axis=0) + 1e-6
        n_labels = z.shape[1]
        if n_labels <= rank:
            return cls(mean, scale, np.eye(n_labels))
        standard = (z - mean) / scale
        vectors = np.linalg.eigh(standard.T @ standard).eigenvectors  # of ascending eigenvalues
        directions = vectors[:, : -rank - 1 : -1]
        signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(rank)])
        return cls(mean, scale, directions * signs)

    def __call__(self, z: Floats) -> Floats:
        """Columns [n, rank] for logits [n, n_labels]."""
        standard = (np.clip(z, -_FARTHEST, _FARTHEST) - self.mean) / self.scale
        return np.asarray(standard @ self.directions)


class SharedColumns:
    """Columns [n, rank] that are the same for every label, and the products of each two of them."""

    def __init__(self, values: Floats) -> None:
        self.values = values
        self.single = values.astype(np.float32)
        self.rank = values.shape[1]
        self._upper = np.triu_indices(self.rank)
        fits = len(values) * len(self._upper[0]) <= _PRODUCTS
        self._kept = self._products(self.single) if fits else None

    def some(self, rows: slice) -> SharedColumns:
        """Those of some images."""
        return SharedColumns(self.values[rows])

    def gram(self, weights: NDArray[np.float32]) -> Floats:
        """Cᵀ diag(weights) C for weights [L, n], float64 [L, rank, rank]: one matrix product for all labels."""
        if self._kept is not None:
            found = (weights @ self._kept).astype(np.float64)
        else:
            found = np.zeros((len(weights), len(self._upper[0])))
            for part in self._parts():
                found += weights[:, part] @ self._products(self.single[part])
        whole = np.empty((len(weights), self.rank, self.rank))
        whole[:, self._upper[0], self._upper[1]] = found
        whole[:, self._upper[1], self._upper[0]] = found
        return whole

    def quadratic(self, A: NDArray[np.float32]) -> NDArray[np.float32]:
        """cᵀ A c of each row, float32 [L, n], with symmetric A [L, rank, rank]: one matrix product for all labels."""
        twice = np.where(self._upper[0] == self._upper[1], np.float32(1), np.float32(2))
        upper = A[:, self._upper[0], self._upper[1]] * twice
        if self._kept is not None:
            return upper @ self._kept.T
        found = np.empty((len(A), len(self.single)), np.float32)
        for part in self._parts():
            found[:, part] = upper @ self._products(self.single[part]).T
        return found

    def _parts(self) -> Iterator[slice]:
        rows = max(1, _PRODUCTS // len(self._upper[0]) // 8)
        return (slice(start, start + rows) for start in range(0, len(self.values), rows))

    def _products(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values[:, self._upper[0]] * values[:, self._upper[1]]


class LabelColumns:
    """The design of some labels: own columns [L, q, n] with the constant as the last of them, and shared ones.

    The order of weights is own, shared, constant. What labels share is multiplied once for all of them.
    """

    def __init__(self, own: NDArray[np.float32], shared: SharedColumns | None, width: int) -> None:
        self.own, self.shared = own, shared
        self.exact = own.astype(np.float64)
        self.shape = (own.shape[0], own.shape[2], width)
        self._mine = np.array([*range(own.shape[1] - 1), width - 1])
        self._ours = slice(own.shape[1] - 1, width - 1)

    def some(self, labels: NDArray[np.int64]) -> LabelColumns:
        """Those of some labels."""
        return LabelColumns(self.own[labels], self.shared, self.shape[2])

    def linear(self, W: Floats) -> Floats:
        """X w of each label."""
        eta = np.matmul(W[:, None, self._mine], self.exact)[:, 0]
        return np.asarray(eta if self.shared is None else eta + W[:, self._ours] @ self.shared.values.T)

    def transposed(self, R: Floats) -> Floats:
        """Xᵀ r of each label."""
        found = np.empty((self.shape[0], self.shape[2]))
        found[:, self._mine] = np.matmul(self.exact, R[:, :, None])[:, :, 0]
        if self.shared is not None:
            found[:, self._ours] = R @ self.shared.values
        return found

    def gram(self, weights: Floats | None, single: bool) -> Floats:
        """Xᵀ diag(weights) X; in double precision without weights, where labels differ in their own columns alone."""
        labels, n, width = self.shape
        found = np.empty((labels, width, width))
        mine, ours = self._mine, self._ours
        own = self.own if single and weights is not None else self.exact
        weighted = own if weights is None else own * weights[:, None, :].astype(own.dtype)
        found[:, mine[:, None], mine] = np.matmul(weighted, own.transpose(0, 2, 1))
        if self.shared is None:
            return found
        common = self.shared.single if own.dtype == np.float32 else self.shared.values
        cross = (weighted.reshape(-1, n) @ common).reshape(labels, len(mine), -1)
        found[:, mine, ours] = cross
        found[:, ours, mine] = cross.transpose(0, 2, 1)
        if weights is None:
            found[:, ours, ours] = common.T @ common
        elif single:
            found[:, ours, ours] = self.shared.gram(weights.astype(np.float32))
        else:
            for label, w in enumerate(weights):
                found[label, ours, ours] = common.T @ (common * w[:, None])
        return found

    def leverage(self, A: Floats) -> Floats:
        """xᵀ A x of each label and image, in single precision: it says how losses compare, and is below 1."""
        mine, ours = self._mine, self._ours
        small = A.astype(np.float32)
        found = (np.matmul(small[:, mine[:, None], mine], self.own) * self.own).sum(axis=1)
        if self.shared is None:
            return found.astype(np.float64)
        C = self.shared.single
        cross = (small[:, mine, ours].reshape(-1, C.shape[1]) @ C.T).reshape(self.own.shape)
        found += 2 * (cross * self.own).sum(axis=1)
        found += self.shared.quadratic(small[:, ours, ours])
        return found.astype(np.float64)


@dataclass(frozen=True)
class LogitColumns:
    """Columns of each label's regression: those of its own [n_labels, n, q], those shared by all, a constant 1."""

    own: NDArray[np.float32]
    shared: SharedColumns | None = None

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.own.shape[2]) + (0 if self.shared is None else self.shared.rank) + 1

    def of(self, labels: slice) -> LabelColumns:
        """The design of some labels, float64 [labels, n, width]."""
        own = self.own[labels]
        columns = np.ones((own.shape[0], own.shape[2] + 1, own.shape[1]), np.float32)
        columns[:, :-1] = own.transpose(0, 2, 1)
        return LabelColumns(columns, self.shared, self.width)

    def blocks(self, size: int = 1_500_000) -> Iterator[slice]:
        """Consecutive labels whose own columns have together about ``size`` numbers."""
        n_labels, n = self.own.shape[:2]
        step = max(1, size // (n * (self.own.shape[2] + 1)))
        for first in range(0, n_labels, step):
            yield slice(first, min(first + step, n_labels))

    def some(self, labels: slice, rows: slice) -> LogitColumns:
        """Those of some labels and images."""
        return LogitColumns(self.own[labels, rows], None if self.shared is None else self.shared.some(rows))
