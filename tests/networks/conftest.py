"""Data and training params that the network tests share."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack.params.training import TrainingSection
from networks.tiny_training import ArrayBatches, draw


@pytest.fixture(scope="session")
def batches() -> ArrayBatches:
    return ArrayBatches(*draw(28))


@pytest.fixture(scope="session")
def holdout() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    return draw(20, seed=1)


@pytest.fixture(scope="session")
def training() -> TrainingSection:
    return TrainingSection(patience=None)
