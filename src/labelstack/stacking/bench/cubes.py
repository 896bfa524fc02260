"""Prediction cubes with their labels, read from ``.npz`` and written."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.support.errors import InputProblems, UserError

_ARRAYS = {"cube": 3, "labels": 2, "test_cube": 3, "test_labels": 2}
_AXES = {3: ("image", "model", "label"), 2: ("image", "label")}


@dataclass(frozen=True)
class Cube:
    """Predictions of several models for the same images, with the true labels.

    Attributes
    ----------
    cube : float32 [n, n_models, n_labels] in 0 … 1, of images that no base model was trained on
    labels : float32 [n, n_labels] in 0 … 1; values between are soft labels
    test_cube, test_labels : further images, to score on and never to choose by; None without
    models : a name for each model
    """

    cube: NDArray[np.float32]
    labels: NDArray[np.float32]
    test_cube: NDArray[np.float32] | None = None
    test_labels: NDArray[np.float32] | None = None
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.models:
            object.__setattr__(self, "models", tuple(f"model_{m}" for m in range(self.cube.shape[1])))


def read_cube(path: str | Path) -> Cube:
    """Read a cube of predictions and its labels from ``.npz``.

    Parameters
    ----------
    path : keys ``cube`` [n, n_models, n_labels], ``labels`` [n, n_labels] (0/1, bool or soft), optionally ``test_cube``
        and ``test_labels`` of other images, and ``models`` (names); numbers of any type, float16 too. Other keys are
        left alone. Nothing is unpickled.

    Raises
    ------
    UserError
        When the file is absent or no ``.npz``.
    InputProblems
        All problems at once: missing keys, shapes that do not fit, NaN and values outside 0 … 1 with their place.
    """
    problems: list[str] = []
    arrays = _load(Path(path), problems)
    missing = [key for key in ("cube", "labels") if key not in arrays and not _named(key, problems)]
    if missing:
        there = ", ".join(arrays) or "no arrays"
        problems += [f"{key}: missing; expected an array {_form(key)} (the file has: {there})" for key in missing]
    for key, other in (("test_cube", "test_labels"), ("test_labels", "test_cube")):
        if key in arrays and other not in arrays and not _named(other, problems):
            problems.append(f"{other}: missing, though {key} is there; the two come together or not at all")
    models = _models(arrays.get("models"), problems)
    checked = {key: _values(key, arrays[key], models, problems) for key in _ARRAYS if key in arrays}
    shapes = {key: values.shape for key, values in checked.items() if values is not None}
    problems += _shape_problems(shapes, models)
    if problems:
        raise InputProblems(str(path), problems)
    return Cube(checked["cube"], checked["labels"], checked.get("test_cube"), checked.get("test_labels"), models)  # type: ignore[arg-type]


def _load(path: Path, problems: list[str]) -> dict[str, NDArray[Any]]:
    arrays = {}
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise UserError(f"{path}: holds one array; expected an .npz with the keys cube and labels")
        with content:
            for key in content.files:
                try:
                    arrays[key] = content[key]
                except ValueError as error:  # objects, which only pickle could read
                    if key in _ARRAYS or key == "models":
                        problems.append(f"{key}: cannot be read ({str(error).rstrip('.')})")
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; expected an .npz file") from None
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path}: not an .npz file, or a damaged one ({error})") from None
    return arrays


def _named(key: str, problems: Sequence[str]) -> bool:
    return any(problem.startswith(f"{key}:") for problem in problems)


def _form(key: str) -> str:
    return "[images, models, labels]" if _ARRAYS[key] == 3 else "[images, labels]"


def _models(names: NDArray[Any] | None, problems: list[str]) -> tuple[str, ...]:
    if names is None:
        return ()
    if names.dtype.kind not in "US" or names.ndim != 1:
        problems.append(f"models: expected one text for each model, not {names.dtype} {list(names.shape)}")
        return ()
    texts = tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names.tolist())
    twice = sorted({text for text in texts if texts.count(text) > 1})
    if twice:
        problems.append(f"models: names must differ; there more than once: {', '.join(twice)}")
    return texts


def _values(key: str, array: NDArray[Any], models: Sequence[str], problems: list[str]) -> NDArray[np.float32] | None:
    """The array as float32, or None when its form is wrong; says how many values are none and where the first is."""
    if array.ndim != _ARRAYS[key] or 0 in array.shape or array.dtype.kind not in "biuf":
        problems.append(
            f"{key}: expected numbers {_form(key)} with at least one of each, not {array.dtype} {list(array.shape)}"
        )
        return None
    bad = ~np.isfinite(array)
    if bad.any():
        problems.append(f"{key}: {_count(bad, 'NaN or infinite value')}, the first at {_place(bad, models)}")
    with np.errstate(invalid="ignore"):
        outside = ((array < 0) | (array > 1)) & ~bad
    if outside.any():
        first = float(array[np.unravel_index(int(np.argmax(outside)), array.shape)])
        hint = "" if "labels" in key else "; expected probabilities, not logits"
        places = f"the first at {_place(outside, models)}: {first:g}"
        problems.append(f"{key}: {_count(outside, 'value')} outside 0 … 1, {places}{hint}")
    return array.astype(np.float32)


def _count(where: NDArray[np.bool_], what: str) -> str:
    count = int(where.sum())
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _place(where: NDArray[np.bool_], models: Sequence[str]) -> str:
    """The first place in words, counted from 0."""
    index = np.unravel_index(int(np.argmax(where)), where.shape)
    parts = []
    for axis, position in zip(_AXES[where.ndim], map(int, index), strict=True):
        name = f" ({models[position]})" if axis == "model" and position < len(models) else ""
        parts.append(f"{axis} {position}{name}")
    return ", ".join(parts)


def _shape_problems(shapes: dict[str, tuple[int, ...]], models: Sequence[str]) -> list[str]:
    problems = []
    for cube, labels in (("cube", "labels"), ("test_cube", "test_labels")):
        if cube in shapes and labels in shapes and shapes[labels] != (shapes[cube][0], shapes[cube][2]):
            problems.append(
                f"{labels}: is {list(shapes[labels])}, {cube} is {list(shapes[cube])}: "
                f"expected {[shapes[cube][0], shapes[cube][2]]}"
            )
    if "cube" in shapes:
        n, n_models, n_labels = shapes["cube"]
        if "test_cube" in shapes and shapes["test_cube"][1:] != (n_models, n_labels):
            there = f"{n_models} model(s) and {n_labels} label(s)"
            problems.append(f"test_cube: is {list(shapes['test_cube'])}; expected the {there} of cube")
        if models and len(models) != n_models:
            problems.append(f"models: {len(models)} name(s) for the {n_models} model(s) of cube")
        if n < 2:
            problems.append("cube: one image; expected at least two, one to fit on and one to score")
    return problems
