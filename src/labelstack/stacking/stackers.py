"""What a stacker is, and the registry from a section of params.yaml or a folder to one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack import params_stacking as params
from labelstack.errors import UserError
from labelstack.stacker_kinds import CLASSES
from labelstack.stacking.fold_ensemble import FoldEnsemble
from labelstack.storage import read_json


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


KINDS = tuple(CLASSES)


def stacker_class(kind: str) -> type[Any]:
    """The class of a kind; imported when it is asked for."""
    module, _, name = CLASSES[kind].partition(":")
    found: type[Any] = getattr(import_module(module), name)
    return found


def make_stacker(section: params.Stacker) -> Stacker:
    """An unfitted stacker from its section of params.yaml."""
    return new_stacker(section.kind, section.model_dump(exclude={"kind"}))


def new_stacker(kind: str, settings: dict[str, Any]) -> Stacker:
    """An unfitted stacker from its kind and the arguments of its constructor."""
    stacker: Stacker = stacker_class(kind)(**settings)
    return stacker


def kind_of(stacker: Stacker) -> str:
    """The kind under which a stacker's class is registered; of other classes their name."""
    own = f"{type(stacker).__module__}:{type(stacker).__qualname__}"
    return next((kind for kind, name in CLASSES.items() if name == own), type(stacker).__name__)


def load_stacker(directory: str | Path) -> Stacker | FoldEnsemble:
    """Read a saved stacker or fold ensemble of any kind; raise ``UserError`` when the folder holds neither."""
    config = read_json(Path(directory) / "config.json")
    kind = config.get("kind") if isinstance(config, dict) else None
    if kind == "folds":
        return FoldEnsemble.load(directory)
    if kind not in KINDS:
        raise UserError(f"{directory}: unknown stacker kind {kind!r} (known: {', '.join([*KINDS, 'folds'])})")
    stacker: Stacker = stacker_class(kind).load(directory)
    return stacker
