"""What categories of instances are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params


def category_names(params: Params, categories: NDArray[np.int64]) -> list[str]:
    """The name of each category id, int64 [n]; ``3 cardigan`` where a name comes twice, the id where nobody says one.

    Names decide nothing, so that a file of them that is not here is no fault.
    """
    from labelstack.formats.instance_labels import read_instance_labels

    kinds = read_instance_labels(Path(params.dataset.root), [])
    known = {} if kinds is None else kinds.categories
    names = [known.get(one, str(one)) for one in categories.tolist()]
    return [
        name if names.count(name) == 1 else f"{one} {name}"
        for one, name in zip(categories.tolist(), names, strict=True)
    ]
