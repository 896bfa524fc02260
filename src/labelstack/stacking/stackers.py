"""What a stacker is, and the registry from a section of params.yaml or a folder to one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack import params
from labelstack.errors import UserError
from labelstack.stacking.cnn import CNNStacker
from labelstack.stacking.fold_ensemble import FoldEnsemble
from labelstack.stacking.xgb import XGBoostStacker
from labelstack.storage import read_json

KINDS: dict[str, type[CNNStacker] | type[XGBoostStacker]] = {"cnn": CNNStacker, "xgboost": XGBoostStacker}


class Stacker(Protocol):
    """A second-level model in the manner of scikit-learn; cube is [n, n_models, n_labels], Y 0/1 [n, n_labels]."""

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


def make_stacker(section: params.Stacker) -> CNNStacker | XGBoostStacker:
    """An unfitted stacker from its section of params.yaml."""
    return KINDS[section.kind](**section.model_dump(exclude={"kind"}))


def load_stacker(directory: str | Path) -> CNNStacker | XGBoostStacker | FoldEnsemble:
    """Read a saved stacker or fold ensemble of any kind; raise ``UserError`` when the folder holds neither."""
    config = read_json(Path(directory) / "config.json")
    kind = config.get("kind") if isinstance(config, dict) else None
    if kind == "folds":
        return FoldEnsemble.load(directory)
    if kind not in KINDS:
        raise UserError(f"{directory}: unknown stacker kind {kind!r} (known: {', '.join([*KINDS, 'folds'])})")
    return KINDS[kind].load(directory)
