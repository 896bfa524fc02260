"""The way from a section of params.yaml or a folder to a stacker."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from labelstack.params.stackers import STACKERS, StackerSection, section_of
from labelstack.stacking.stackers.fold_ensemble import FoldEnsemble
from labelstack.stacking.stackers.stacker import Stacker
from labelstack.support.errors import UserError
from labelstack.support.storage import read_json


def stacker_class(reference: str) -> type[Any]:
    """The class that ``module:class`` names; imported when it is asked for."""
    module, _, name = reference.partition(":")
    found: type[Any] = getattr(import_module(module), name)
    return found


def make_stacker(section: StackerSection) -> Stacker:
    """An unfitted stacker from its section of params.yaml."""
    return new_stacker(section.stacker, section.model_dump(exclude={"kind"}))


def new_stacker(reference: str, settings: dict[str, Any]) -> Stacker:
    """An unfitted stacker from its ``module:class`` and the arguments of its constructor."""
    stacker: Stacker = stacker_class(reference)(**settings)
    return stacker


def reference_of(stacker: Stacker) -> str:
    """``module:class`` of a stacker."""
    return f"{type(stacker).__module__}:{type(stacker).__qualname__}"


def load_stacker(directory: str | Path) -> Stacker | FoldEnsemble:
    """Read a saved stacker or fold ensemble of any kind; raise ``UserError`` when the folder holds neither."""
    config = read_json(Path(directory) / "config.json")
    kind = config.get("kind") if isinstance(config, dict) else None
    if kind == "folds":
        return load_fold_ensemble(directory)
    if kind == "by_group":
        of_groups: Stacker = stacker_class("labelstack.stacking.by_group:ByGroup").load(directory)
        return of_groups
    if not isinstance(kind, str) or kind not in STACKERS:
        known = ", ".join([*STACKERS.names(), "by_group", "folds"])
        raise UserError(f"{directory}: unknown stacker kind {kind!r} (known: {known}); is its plug-in installed here?")
    stacker: Stacker = stacker_class(section_of(kind).stacker).load(directory)
    return stacker


def load_fold_ensemble(directory: str | Path) -> FoldEnsemble:
    """Read what ``FoldEnsemble.save`` wrote; raise ``UserError`` when it is something else."""
    directory = Path(directory)
    config = read_json(directory / "config.json")
    if not isinstance(config, dict) or config.get("kind") != "folds" or not isinstance(config.get("k"), int):
        raise UserError(f"{directory}: not a saved fold ensemble")
    loaded = [load_stacker(directory / f"fold-{fold}") for fold in range(config["k"])]
    if any(isinstance(stacker, FoldEnsemble) for stacker in loaded):
        raise UserError(f"{directory}: a fold ensemble inside a fold ensemble")
    return FoldEnsemble(loaded, config.get("columns"))  # type: ignore[arg-type]
