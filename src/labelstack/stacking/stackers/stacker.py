"""What a stacker is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Stacker(Protocol):
    """A second-level model in the manner of scikit-learn; cube is [n, n_models, n_labels], Y 0/1 or soft [n, n_labels].

    Registered classes also have ``load(directory)``, which reads what ``save`` wrote.
    """

    def fit(self, cube: ArrayLike, Y: ArrayLike, *, progress: str = "") -> Any:
        """Learn; ``progress`` is shown in the progress bar. Returns the stacker itself."""

    def predict_proba(self, cube: ArrayLike) -> NDArray[np.float32]:
        """Probabilities float32 [n, n_labels]."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor."""

    def save(self, directory: str | Path) -> None:
        """Write the fitted stacker into a folder, whole or not at all."""

    def digest(self) -> str:
        """SHA-256 in hex over params and everything learnt."""
