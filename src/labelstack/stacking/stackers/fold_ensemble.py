"""The stacker that k folds leave behind: the mean of its fold models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.predictions import other_columns
from labelstack.stacking.stackers.averaging import mean_of
from labelstack.stacking.stackers.stacker import Stacker
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing_dir, write_json


class FoldEnsemble:
    """Mean of the stackers that were trained on k − 1 folds each.

    Parameters
    ----------
    stackers : sequence of fitted stackers, in the order of their folds
    columns : names of the cube's models, in the order in which the stackers were fitted on them; None: not known
    """

    def __init__(self, stackers: Sequence[Stacker], columns: Sequence[str] | None = None) -> None:
        if not stackers:
            raise ValueError("stackers is empty: at least one is needed")
        self.stackers = list(stackers)
        self.columns = None if columns is None else list(columns)

    def predict_proba(self, cube: ArrayLike, columns: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Mean probability of the fold models.

        Parameters
        ----------
        cube : float [n, n_models, n_labels]
        columns : names of its models in order; None: those of the fit

        Returns
        -------
        float32 [n, n_labels]

        Raises
        ------
        UserError
            When the stackers were fitted on other columns.
        """
        if columns is not None and (problem := other_columns(self.columns, columns)):
            raise UserError(problem)
        return mean_of([stacker.predict_proba(cube) for stacker in self.stackers])

    def save(self, directory: str | Path) -> None:
        """Write ``config.json`` and one folder ``fold-<j>`` for each fold model; whole or not at all."""
        with replacing_dir(directory) as temporary:
            for fold, stacker in enumerate(self.stackers):
                stacker.save(temporary / f"fold-{fold}")
            config = {"kind": "folds", "k": len(self.stackers)}
            write_json(temporary / "config.json", config | ({"columns": self.columns} if self.columns else {}))

    def digest(self) -> str:
        """SHA-256 in hex over the fold models' digests in order."""
        return hashlib.sha256("\n".join(stacker.digest() for stacker in self.stackers).encode()).hexdigest()
