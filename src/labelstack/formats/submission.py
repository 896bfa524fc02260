"""The submission file of the iMaterialist Challenge (Fashion) at FGVC5, 2018."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from labelstack.storage import replacing


def write_submission(path: str | Path, image_id: ArrayLike, labels: Sequence[Iterable[int]]) -> None:
    """Write ``id,predicted``: a row per test image, label ids ascending and space-delimited, blank when none.

    Parameters
    ----------
    image_id : int [n], unique, in the competition's order
    labels : n collections of label ids

    Raises
    ------
    ValueError
        When lengths differ, an image id stands twice, or an id is not a whole number ≥ 0. Nothing is written then.
    """
    ids = np.asarray(image_id)
    if ids.ndim != 1 or len(ids) != len(labels):
        raise ValueError(f"expected one collection of labels per image id, found {len(labels)} for ids {ids.shape}")
    if len(ids) and not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"image_id must hold integers, not {ids.dtype}")
    unique, times = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        raise ValueError(f"image_id must be unique; found more than once: {unique[times > 1][:5].tolist()}")
    if len(ids) and unique[0] < 0:
        raise ValueError(f"image_id must not be negative, found {unique[0]}")
    rows = [f"{image},{_row(image, row)}\n" for image, row in zip(ids.tolist(), labels, strict=True)]
    with replacing(path) as temporary:
        temporary.write_text("id,predicted\n" + "".join(rows), encoding="ascii", newline="\n")


def _row(image: int, labels: Iterable[int]) -> str:
    values = list(labels)
    if any(isinstance(v, bool | np.bool_) or not isinstance(v, int | np.integer) or v < 0 for v in values):
        raise ValueError(f"image {image}: labels must be whole numbers ≥ 0, found {values[:10]}")
    if len(set(values)) != len(values):
        raise ValueError(f"image {image}: a label stands twice in {values[:10]}")
    return " ".join(str(int(v)) for v in sorted(values))
