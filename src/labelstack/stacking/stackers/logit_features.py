"""What the linear stackers see of a cube: logits of a label's own models, the image's other labels, the context."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_FARTHEST = 12.0  # logits of combined probabilities are cut off at ±12


def logits(P: NDArray[np.float32], clip: float) -> NDArray[np.float32]:
    """log(p / (1 − p)) of probabilities that are first clipped to clip … 1 − clip, float32."""
    clipped = np.clip(P, np.float32(clip), np.float32(1 - clip))
    return np.log(clipped / (1 - clipped))


def own_inputs(cube: NDArray[np.float32], inputs: str, clip: float) -> NDArray[np.float32]:
    """Own columns of each label, float32 [n_labels, n, n_models], twice as many for ``inputs="both"``."""
    parts = []
    if inputs in {"logit", "both"}:
        parts.append(logits(cube, clip))
    if inputs in {"probability", "both"}:
        parts.append(cube)
    return np.ascontiguousarray(np.concatenate(parts, axis=1).transpose(2, 0, 1))


def rivals(z: Floats) -> NDArray[np.float32]:
    """How strong the other labels of an image are, float32 [n_labels, n, 3].

    For each image and label, over the other labels' logits z: log Σ exp z, the largest z, log Σ p.
    """
    z = np.clip(z, -_FARTHEST, _FARTHEST)
    n, n_labels = z.shape
    if n_labels == 1:
        return np.zeros((1, n, 3), np.float32)
    odds = np.exp(z)
    p = odds / (1 + odds)
    order = np.partition(z, n_labels - 2, axis=1)
    largest = np.where(z == order[:, -1:], order[:, -2:-1], order[:, -1:])
    columns = [_log_of_others(odds), largest, _log_of_others(p)]
    return np.stack([column.T for column in columns], axis=2).astype(np.float32)


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


@dataclass(frozen=True)
class LogitColumns:
    """Columns of each label's regression: those of its own [n_labels, n, q], those shared by all, a constant 1."""

    own: NDArray[np.float32]
    shared: Floats | None = None

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.own.shape[2]) + (0 if self.shared is None else int(self.shared.shape[1])) + 1

    def of(self, labels: slice) -> Floats:
        """Matrices float64 [labels, n, width]."""
        own = self.own[labels]
        filled = np.ones((own.shape[0], own.shape[1], self.width))
        filled[:, :, : own.shape[2]] = own
        if self.shared is not None:
            filled[:, :, own.shape[2] : -1] = self.shared
        return filled

    def blocks(self, size: int = 4_000_000) -> Iterator[slice]:
        """Consecutive labels whose matrices have together about ``size`` numbers."""
        n_labels, n = self.own.shape[:2]
        step = max(1, size // (n * self.width))
        for first in range(0, n_labels, step):
            yield slice(first, min(first + step, n_labels))

    def some(self, labels: slice, rows: slice) -> LogitColumns:
        """Those of some labels and images."""
        return LogitColumns(self.own[labels, rows], None if self.shared is None else self.shared[rows])
