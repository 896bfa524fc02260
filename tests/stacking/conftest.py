"""Small second-level data: several models' noisy views of correlated labels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

Data = tuple[NDArray[np.float32], NDArray[np.uint8]]


def make_data(n: int, n_models: int, n_labels: int, seed: int = 0) -> Data:
    """A cube float32 [n, n_models, n_labels] and answers uint8 [n, n_labels], no label constant."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, 3)) @ rng.normal(size=(3, n_labels)) - 1
    Y = (truth + rng.normal(size=truth.shape) * 0.5 > 0).astype(np.uint8)
    Y[0], Y[1] = 0, 1
    views = truth[:, None, :] + rng.normal(size=(n, n_models, n_labels))
    return (1 / (1 + np.exp(-views))).astype(np.float32), Y


@pytest.fixture(scope="session")
def data() -> Data:
    """120 images, 4 models, 6 labels."""
    return make_data(120, 4, 6)
