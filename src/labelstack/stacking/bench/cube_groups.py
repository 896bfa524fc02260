"""The label groups of a cube's file: which group each label is of, which each row knows, what may be true besides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.scoring.attribute_rows import LabelGroups

GROUP_KEYS = ("groups", "known", "maybe", "test_known", "test_maybe")
_PAIRS = (("cube", "labels", "known", "maybe"), ("test_cube", "test_labels", "test_known", "test_maybe"))


def read_groups(arrays: dict[str, NDArray[Any]], told: dict[str, NDArray[Any]], problems: list[str]) -> dict[str, Any]:
    """Fields of a ``Cube``: ``groups``, ``known``, ``maybe`` and those of the test pair.

    Parameters
    ----------
    arrays : the file's other arrays; NaN in cubes outside of what a row knows become 0, soft labels 0 and 1
    told : its arrays of ``GROUP_KEYS``
    problems : takes a sentence for each thing that is wrong
    """
    labels = arrays.get("labels")
    if labels is None or labels.ndim != 2 or "groups" not in told:
        problems.append("groups: missing, or no labels [images, labels] beside it; known and maybe are read with them")
        return {}
    groups = told["groups"]
    if groups.shape != (labels.shape[1],) or groups.dtype.kind not in "USiu":
        problems.append(f"groups: expected a text or whole number for each of {labels.shape[1]} labels, not "
                        f"{groups.dtype} {list(groups.shape)}")  # fmt: skip
        return {}
    of_labels = LabelGroups(_texts(groups))
    found: dict[str, Any] = {"groups": of_labels.group}
    for cube, answers, known, maybe in _PAIRS:
        if answers in arrays and arrays[answers].ndim == 2 and arrays[answers].shape[1] == len(of_labels.group):
            found |= _rows(arrays, told, of_labels, (cube, answers, known, maybe), problems)
    return found


def _rows(
    arrays: dict[str, NDArray[Any]],
    told: dict[str, NDArray[Any]],
    groups: LabelGroups,
    keys: tuple[str, str, str, str],
    problems: list[str],
) -> dict[str, Any]:
    cube, answers, known, maybe = keys
    Y = np.nan_to_num(arrays[answers].astype(np.float64), nan=0.0)
    try:
        of_label = groups.known(Y)
    except ValueError as error:
        problems.append(f"{answers}: {error}")
        return {}
    knows = np.array(_texts(told[known])) if known in told else of_label
    if knows.shape != of_label.shape:
        problems.append(f"{known}: expected a group for each of {len(of_label)} images, not {list(told[known].shape)}")
        return {}
    if known in told and told[known].dtype.kind in "iu" and not set(knows.tolist()) <= set(groups.names):
        places = told[known].astype(np.int64)  # numbers of the groups in the order of their first labels
        if places.min() >= 0 and places.max() < len(groups.names):
            knows = np.array(groups.names)[places]
    if (other := knows != of_label).any():
        first = int(np.argmax(other))
        problems.append(
            f"{known}: {int(other.sum())} of {len(other)} images know another group than that of their label, the "
            f"first is image {first}: {knows[first]}, its label is of {of_label[first]}"
        )
        return {}
    inside = knows[:, None] == np.array(groups.group)
    best = np.where(inside, Y, -1).argmax(axis=1)
    true = np.zeros(Y.shape, bool)
    true[np.arange(len(Y)), best] = True
    also = (Y > 0) & inside & ~true
    if maybe in told:
        if told[maybe].shape != Y.shape or told[maybe].dtype.kind not in "biuf":
            problems.append(f"{maybe}: expected 0 and 1 {list(Y.shape)}, as {answers}, not {told[maybe].dtype} "
                            f"{list(told[maybe].shape)}")  # fmt: skip
            return {}
        also = (told[maybe] > 0) & inside & ~true
    arrays[answers] = true.astype(np.float32)
    values = arrays.get(cube)
    if values is not None and values.ndim == 3 and values.shape[::2] == Y.shape and values.dtype.kind == "f":
        arrays[cube] = np.where(np.isnan(values) & ~inside[:, None], 0, values)
    return {known: knows, maybe: also}


def _texts(values: NDArray[Any]) -> list[str]:
    return [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in values.tolist()]
