"""Prediction cubes with their labels, read from ``.npz``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.scoring.attribute_rows import AttributeRows
from labelstack.stacking.bench.cube_groups import GROUP_KEYS, read_groups
from labelstack.support.errors import InputProblems, UserError

_PAIRS = (("cube", "labels"), ("test_cube", "test_labels"))
_AXES = {key: ("image", "model", "label") if "cube" in key else ("image", "label") for pair in _PAIRS for key in pair}


@dataclass(frozen=True)
class Cube:
    """Predictions of several models for the same images, with the true labels.

    Attributes
    ----------
    cube : float32 [n, n_models, n_labels] in 0 … 1, of images that no base model was trained on
    labels : float32 [n, n_labels] in 0 … 1; values between are soft labels
    test_cube, test_labels : further images, to score on and never to choose by; None without
    models : a name for each model
    groups : for each label its group, where every row knows one group, of which one label is true; none: rows know all
    known, test_known : str [n], the group that each row knows
    maybe, test_maybe : bool [n, n_labels], labels that may be true besides
    """

    cube: NDArray[np.float32]
    labels: NDArray[np.float32]
    test_cube: NDArray[np.float32] | None = None
    test_labels: NDArray[np.float32] | None = None
    models: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    known: NDArray[np.str_] | None = None
    maybe: NDArray[np.bool_] | None = None
    test_known: NDArray[np.str_] | None = None
    test_maybe: NDArray[np.bool_] | None = None

    @property
    def asked(self) -> AttributeRows | None:
        """What the rows know; None: all labels."""
        return None if self.known is None else AttributeRows.of(self.groups, self.known, self.maybe)

    @property
    def test_asked(self) -> AttributeRows | None:
        """What the test rows know."""
        return None if self.test_known is None else AttributeRows.of(self.groups, self.test_known, self.test_maybe)

    def __post_init__(self) -> None:
        if not self.models:
            object.__setattr__(self, "models", tuple(f"model_{m}" for m in range(self.cube.shape[1])))


def read_cube(path: str | Path) -> Cube:
    """Read a cube of predictions and its labels from ``.npz``.

    Parameters
    ----------
    path : keys ``cube`` [n, n_models, n_labels], ``labels`` [n, n_labels] (0/1, bool or soft), optionally ``test_cube``
        and ``test_labels`` of other images, and ``models`` (names); numbers of any type, float16 too. Where every row
        knows one label group besides ``groups`` [n_labels], the group of each label, and optionally ``known`` [n], that
        of each row (else the group of its label), ``maybe`` [n, n_labels], labels that may be true besides (else those
        above 0 that are not the row's largest), ``test_known`` and ``test_maybe``; outside of what a row knows the
        cube may hold NaN. Other keys are left alone. Nothing is unpickled.

    Raises ``UserError`` on a file that is absent or no ``.npz``, and ``InputProblems`` with all that is wrong inside.
    """
    path, problems = Path(path), list[str]()
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise UserError(f"{path}: holds one array; expected an .npz with the keys cube and labels")
        with content:
            there, arrays = content.files, {}
            for key in [key for key in (*_AXES, "models", *GROUP_KEYS) if key in there]:
                try:
                    arrays[key] = content[key]
                except ValueError as error:  # objects, which only pickle could read
                    problems.append(f"{key}: cannot be read ({str(error).rstrip('.')})")
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path}: not an .npz file, or a damaged one ({error})") from None
    for key in [key for pair in _PAIRS for key in pair if key not in there and ("cube" in pair or {*pair} & {*there})]:
        problems.append(f"{key}: missing; expected {_form(key)} (the file has: {', '.join(there) or 'no arrays'})")
    names = _names(arrays.pop("models", None), problems)
    told = {key: arrays.pop(key) for key in GROUP_KEYS if key in arrays}
    asked: dict[str, Any] = {}
    if told and not problems:
        asked = read_groups(arrays, told, problems)
        if problems:  # what may be NaN in the cube is not known then
            raise InputProblems(str(path), problems)
    checked = {key: _values(key, array, names, problems) for key, array in arrays.items()}
    _check_shapes({key: values.shape for key, values in checked.items() if values is not None}, names, problems)
    if problems:
        raise InputProblems(str(path), problems)
    return Cube(**checked, models=names, **asked)  # type: ignore[arg-type]


def _names(names: NDArray[Any] | None, problems: list[str]) -> tuple[str, ...]:
    if names is None:
        return ()
    if names.dtype.kind not in "US" or names.ndim != 1:
        problems.append(f"models: expected one text for each model, not {names.dtype} {list(names.shape)}")
        return ()
    texts = tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names.tolist())
    if twice := sorted({text for text in texts if texts.count(text) > 1}):
        problems.append(f"models: names must differ; there more than once: {', '.join(twice)}")
    return texts


def _form(key: str) -> str:
    return f"numbers [{', '.join(f'{axis}s' for axis in _AXES[key])}], at least one of each"


def _values(key: str, array: NDArray[Any], names: Sequence[str], problems: list[str]) -> NDArray[np.float32] | None:
    """The array as float32, or None without one of the right form; says how many values are wrong, and the first."""
    axes = _AXES[key]
    if array.ndim != len(axes) or 0 in array.shape or array.dtype.kind not in "biuf":
        problems.append(f"{key}: expected {_form(key)}, not {array.dtype} {list(array.shape)}")
        return None
    bad = ~((array >= 0) & (array <= 1))  # NaN too
    if bad.any():
        first = tuple(map(int, np.unravel_index(np.argmax(bad), bad.shape)))
        model = f" ({names[first[1]]})" if len(axes) == 3 and first[1] < len(names) else ""
        place = ", ".join(f"{a} {i}{model if a == 'model' else ''}" for a, i in zip(axes, first, strict=True))
        hint = "" if "labels" in key else "; expected probabilities, not logits"
        count = f"{int(bad.sum()):,} of {bad.size:,} values NaN or outside 0 … 1"
        problems.append(f"{key}: {count}, the first at {place}: {float(array[first]):g}{hint}")
    return array.astype(np.float32)


def _check_shapes(shapes: dict[str, tuple[int, ...]], names: Sequence[str], problems: list[str]) -> None:
    for cube, labels in _PAIRS:
        if cube in shapes and labels in shapes and shapes[labels] != (fits := (shapes[cube][0], shapes[cube][2])):
            problems.append(f"{labels}: is {list(shapes[labels])}; expected {list(fits)}, as {cube} has them")
    if "cube" not in shapes:
        return
    n, n_models, n_labels = shapes["cube"]
    if shapes.get("test_cube", shapes["cube"])[1:] != (n_models, n_labels):
        there = f"{list(shapes['test_cube'])}; expected the {n_models} model(s) and {n_labels} label(s) of cube"
        problems.append(f"test_cube: is {there}")
    if names and len(names) != n_models:
        problems.append(f"models: {len(names)} name(s) for the {n_models} model(s) of cube")
    if n < 2:
        problems.append("cube: one image; expected at least two, one to fit on and one to score")
