"""Ids of images that people call by texts: a number inside, the text wherever it is shown or written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_POSITIVE = 2**63 - 1


def text_id(text: str) -> int:
    """63 bits of the text's SHA-256: the first 8 bytes, top bit cleared."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") & _POSITIVE


def text_ids(texts: Sequence[str], problems: list[str]) -> NDArray[np.int64]:
    """Ids of different texts, int64 [n]; a problem is added where two of them have the same."""
    ids = np.fromiter((text_id(text) for text in texts), np.int64, len(texts))
    unique, times = np.unique(ids, return_counts=True)
    for shared in unique[times > 1].tolist():
        names = " and ".join(repr(texts[place]) for place in np.flatnonzero(ids == shared).tolist())
        problems.append(f"images {names}: have the same id {shared} inside, by chance: give one another name")
    return ids
