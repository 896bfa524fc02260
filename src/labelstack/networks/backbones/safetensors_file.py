"""Tensors out of a ``.safetensors`` file: no pickle, nothing read before the header fits the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.support.errors import InputProblems, UserError

# The largest network here has 0.4 GB; what is larger is no file of weights for it.
MOST_BYTES = 2 << 30
_WIDENED = ("F16", "BF16")
_TAKEN = ("F32", "I64", *_WIDENED)


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a file by name.

    Returns
    -------
    dict of arrays
        float32 (half precision is widened, exactly) and int64, in the file's order of axes.

    Raises
    ------
    UserError
        The file is too large, cut off, or another kind of file.
    InputProblems
        Tensors of other types, all of them.
    """
    from safetensors import SafetensorError, safe_open

    size = path.stat().st_size
    if size > MOST_BYTES:
        raise UserError(f"{path}: {size:,} bytes; no network here has a file of more than {MOST_BYTES:,}")
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())  # it is no mapping
            types = {name: str(file.get_slice(name).get_dtype()) for name in names}
            if problems := [
                f"{name}: expected numbers of the type {', '.join(_TAKEN)}, found {found}"
                for name, found in types.items()
                if found not in _TAKEN
            ]:
                raise InputProblems(str(path), problems)
            tensors = {name: file.get_tensor(name) for name in types}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: no whole .safetensors file ({error}); fetch or convert it again") from None
    return {name: tensor.astype(np.float32) if types[name] in _WIDENED else tensor for name, tensor in tensors.items()}
