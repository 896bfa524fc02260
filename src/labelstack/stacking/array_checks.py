"""Validation at the door: every message names the argument that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.support.logits import MappedRows


def check_cube(cube: ArrayLike, *, fitted: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """``cube`` as float32 [n, n_models, n_labels] of probabilities; ``fitted`` is the (models, labels) it must have."""
    values = _probabilities(cube, "cube", 3, "[n_images, n_models, n_labels]")
    if fitted is not None and values.shape[1:] != fitted:
        raise ValueError(
            f"cube has {values.shape[1]} models and {values.shape[2]} labels, "
            f"the stacker was fitted with {fitted[0]} and {fitted[1]}"
        )
    return values


def check_targets(Y: ArrayLike, shape: tuple[int, int] | None = None, *, of: str = "cube") -> NDArray[np.float32]:
    """``Y`` as float32 [n, n_labels] in 0 … 1 (soft labels are allowed); ``shape`` is the one that it must have.

    Raises ``ValueError`` that names the argument on NaN, on values outside 0 … 1 and on another shape than that of the
    argument ``of``.
    """
    values = np.asarray(Y)
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "biuf":
        raise ValueError(
            f"Y must be numbers [n, n_labels] with at least one of each, not {values.dtype} {list(values.shape)}"
        )
    values = values.astype(np.float32, copy=False)
    low, high = float(values.min()), float(values.max())  # NaN spreads through min and max
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"Y holds NaN or infinity{_place(values)}")
    if low < 0 or high > 1:
        raise ValueError(f"Y must hold labels in 0 … 1 (0 and 1, or soft labels between), found {low:g} … {high:g}")
    if shape is not None and values.shape != shape:
        raise ValueError(
            f"Y has {values.shape[0]} images and {values.shape[1]} labels, {of} has {shape[0]} and {shape[1]}"
        )
    return values


def check_answers(Y: ArrayLike, shape: tuple[int, int] | None = None, *, of: str = "cube") -> NDArray[np.bool_]:
    """``Y`` as bool [n, n_labels], a soft label counting as true from one half; checked as ``check_targets`` does."""
    if isinstance(Y, np.ndarray) and Y.dtype == np.bool_ and Y.ndim == 2 and Y.size and shape in (None, Y.shape):
        return Y
    return check_targets(Y, shape, of=of) >= np.float32(0.5)


def check_probability(P: ArrayLike, name: str = "P") -> NDArray[np.float32]:
    """``P`` as float32 [n, n_labels] of probabilities."""
    return _probabilities(P, name, 2, "[n_images, n_labels]")


def check_members(members: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float32]]:
    """Members of a blend as float32 [n, n_labels], all of one shape."""
    if not members:
        raise ValueError("members is empty: a blend needs at least one")
    checked = {name: check_probability(p, f"members[{name!r}]") for name, p in members.items()}
    shapes = {name: p.shape for name, p in checked.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"members must have one shape, not {shapes}")
    return checked


def check_folds(folds: ArrayLike, n: int) -> NDArray[np.int64]:
    """``folds`` as int64 [n] that uses each of 0 … k − 1, k ≥ 2."""
    values = np.asarray(folds)
    if values.shape != (n,) or values.dtype.kind not in "iu":
        raise ValueError(f"folds must be integers [{n}], not {values.dtype} {list(values.shape)}")
    present = np.unique(values)
    if len(present) < 2 or not np.array_equal(present, np.arange(len(present))):
        raise ValueError(f"folds must use each of 0 … k − 1 with k of at least 2, not {present[:10].tolist()}")
    return values.astype(np.int64)


def _probabilities(values: ArrayLike, name: str, ndim: int, form: str) -> NDArray[np.float32]:
    if isinstance(values, MappedRows) and values.ndim == ndim and values.size:
        if values.holds_nan():
            raise ValueError(f"{name} holds NaN")
        return cast(NDArray[np.float32], values)  # it stays in its file
    array = np.asarray(values)
    if array.ndim != ndim or 0 in array.shape or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be numbers {form} with at least one of each, not {array.dtype} {list(array.shape)}"
        )
    array = array.astype(np.float32, copy=False)
    low, high = float(array.min()), float(array.max())  # NaN spreads through min and max
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} holds NaN or infinity{_place(array)}")
    if low < 0 or high > 1:
        raise ValueError(f"{name} must hold probabilities in 0 … 1, found {low:g} … {high:g}")
    return array


def _place(values: NDArray[np.float32]) -> str:
    """Where the first value that is not finite stands, and how many there are."""
    bad = ~np.isfinite(values)
    first = np.unravel_index(int(np.argmax(bad)), values.shape)
    return f" ({int(bad.sum())} of {values.size} values, the first at [{', '.join(map(str, first))}])"
