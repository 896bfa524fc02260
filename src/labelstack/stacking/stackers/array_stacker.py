"""What stackers have in common whose fitted state is a few NumPy arrays: fitting, saving, loading, digest."""

from __future__ import annotations

import hashlib
import io
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from labelstack.params.stackers import section_of
from labelstack.stacking.array_checks import check_cube, check_targets
from labelstack.stacking.cells import row_blocks
from labelstack.stacking.sampling import some_rows
from labelstack.support.archive import read_archive, write_archive
from labelstack.support.errors import UserError
from labelstack.support.storage import read_json, replacing_dir, write_json

CELLS = 40_000_000  # numbers of a cube that are answered together
Arrays = dict[str, NDArray[Any]]


class ArrayStacker(BaseEstimator, ABC):  # type: ignore[misc]
    """Base class: a subclass names its ``kind``, learns arrays from a cube and answers with them.

    Sets ``arrays_`` (name → array) and ``shape_`` (n_models, n_labels).
    """

    kind: ClassVar[str]
    learns: ClassVar[bool] = True  # whether a fit looks at its rows

    @abstractmethod
    def _learn(self, cube: NDArray[np.float32], targets: NDArray[np.float32], progress: str) -> Arrays:
        """Arrays that hold all that was learnt from a cube [n, n_models, n_labels] and targets [n, n_labels]."""

    @abstractmethod
    def _answer(self, cube: NDArray[np.float32], arrays: Arrays) -> NDArray[np.floating[Any]]:
        """Probabilities [n, n_labels] from what ``_learn`` gave; what lies outside 0 … 1 is clipped."""

    def fit(self, cube: ArrayLike, Y: ArrayLike, *, progress: str = "") -> Self:
        """Train on a cube [n, n_models, n_labels] and targets 0 … 1 [n, n_labels] (soft labels are allowed).

        Raises ``ValueError`` that names the argument on input or parameters that do not fit.
        """
        section_of(self.kind).model_validate({"kind": self.kind, **self.get_params()}, strict=False)
        values = check_cube(cube)
        targets = check_targets(Y, (values.shape[0], values.shape[2]))
        some = some_rows(len(values), self.get_params().get("rows"))
        self.arrays_ = self._learn(values[some], targets[some], progress)
        self.shape_ = (values.shape[1], values.shape[2])
        return self

    def predict_proba(self, cube: ArrayLike) -> NDArray[np.float32]:
        """Probabilities float32 [n, n_labels] for a cube with the models and labels of the fit."""
        check_is_fitted(self, "arrays_")
        values = check_cube(cube, fitted=self.shape_)
        answer = np.empty((len(values), values.shape[2]), np.float32)
        for rows in row_blocks(len(values), values[0].size, CELLS):
            answer[rows] = np.clip(self._answer(values[rows], self.arrays_), 0, 1)
        return answer

    def save(self, directory: str | Path) -> None:
        """Write ``arrays.zip`` (one ``.npy`` for each array) and ``config.json``; equal stackers give equal bytes."""
        check_is_fitted(self, "arrays_")
        with replacing_dir(directory) as temporary:
            write_archive(temporary / "arrays.zip", {f"{name}.npy": raw for name, raw in self._raw().items()})
            write_json(temporary / "config.json", self._config())

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read what ``save`` wrote; raise ``UserError`` when it is something else."""
        directory = Path(directory)
        config = read_json(directory / "config.json")
        try:
            if config["kind"] != cls.kind:
                raise ValueError(f"kind is {config['kind']!r}")
            stacker = cls(**config["params"])
            stacker.shape_ = (int(config["n_models"]), int(config["n_labels"]))
            names = [str(name) for name in config["arrays"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{directory}/config.json: not a saved {cls.__name__} ({error})") from None
        files = read_archive(directory / "arrays.zip")
        try:
            stacker.arrays_ = {
                name: np.lib.format.read_array(io.BytesIO(files[f"{name}.npy"]), allow_pickle=False) for name in names
            }
        except (KeyError, ValueError) as error:
            raise UserError(f"{directory}/arrays.zip: an array is absent or damaged ({error})") from None
        return stacker

    def digest(self) -> str:
        """SHA-256 in hex over parameters, shape and arrays."""
        check_is_fitted(self, "arrays_")
        digest = hashlib.sha256(json.dumps(self._config(), sort_keys=True).encode())
        for raw in self._raw().values():
            digest.update(hashlib.sha256(raw).digest())
        return digest.hexdigest()

    def _raw(self) -> dict[str, bytes]:
        raw = {}
        for name, array in self.arrays_.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            raw[name] = buffer.getvalue()
        return raw

    def _config(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "n_models": self.shape_[0],
            "n_labels": self.shape_[1],
            "params": {name: value for name, value in self.get_params().items() if (name, value) != ("rows", None)},
            "arrays": list(self.arrays_),
        }
