"""imgaug 0.4 under NumPy 2: the names it needs that NumPy has dropped, and an RNG that leaves numpy.random alone."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

_SCTYPES = {
    "int": [np.int8, np.int16, np.int32, np.int64],
    "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
    "float": [np.float16, np.float32, np.float64],
    "complex": [np.complex64, np.complex128],
    "others": [bool, object, bytes, str, np.void],
}
_DROPPED = {"sctypes": _SCTYPES, "bool": np.bool_, "int": int, "float": float, "complex": complex, "object": object}


def import_augmenters() -> Any:
    """Import ``imgaug.augmenters``; the first call adds the dropped names to NumPy."""
    for name, value in _DROPPED.items():
        if name not in vars(np):  # hasattr would warn
            setattr(np, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import imgaug.random
        from imgaug import augmenters
    if imgaug.random.GLOBAL_RNG is None:  # otherwise imgaug would draw its seed from numpy.random
        imgaug.random.GLOBAL_RNG = imgaug.random.RNG(0)
    return augmenters
