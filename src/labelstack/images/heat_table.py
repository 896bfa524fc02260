"""Where a network looks in each of some images, on disk: maps by row id."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelstack.support.storage import replacing


class HeatMaps(NamedTuple):
    """Maps of rows.

    Attributes
    ----------
    row_id : int64 [n]
    maps : uint8 [n, h, w], of 255 of each map's own maximum
    """

    row_id: NDArray[np.int64]
    maps: NDArray[np.uint8]


def as_stored(maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Maps float [n, h, w], at least 0, as they are kept; one without heat stays 0."""
    most = maps.max(axis=(1, 2), keepdims=True, initial=0)
    return np.rint(255 * maps / np.where(most > 0, most, 1)).astype(np.uint8)


def write_heat(path: Path, heat: HeatMaps) -> None:
    """Write maps; equal content gives equal bytes."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, row_id=heat.row_id, maps=heat.maps)


def read_heat(path: Path) -> dict[int, NDArray[np.uint8]]:
    """Maps uint8 [h, w] by row id; none where there is no file."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return dict(zip(file["row_id"].tolist(), file["maps"], strict=True))
