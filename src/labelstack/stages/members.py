"""Stage `members@{kind}`: what the next level is told of base models or stackers, in the order of params.yaml.

Stages that read many members depend on this list and not on the folders that hold them: a folder also keeps what
params.yaml no longer names, and has no order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labelstack.params import digest, load_params
from labelstack.stages import paths
from labelstack.stages.common import done
from labelstack.support import storage
from labelstack.support.errors import UserError

# What a reader may ask of a member → its files; the list of every aspect is one key of the stage's output.
Aspects = dict[str, Callable[[str], list[Path]]]


def _cross_fitted(label_sets: Path) -> list[Path]:
    """Label sets, and the probabilities beside them that some metrics want."""
    return [label_sets, *label_sets.parent.glob(f"{label_sets.stem}_probability.npz")]


_BASE_MODELS: Aspects = {
    "predictions": lambda name: [paths.predictions(name, "validation"), paths.predictions(name, "test")],
    "label_sets": lambda name: _cross_fitted(paths.cross_fitted(name, stacker=False)),
    "rules": lambda name: [paths.base(name) / "thresholds.json"],
    "scores": lambda name: [paths.METRICS / "predict" / f"{name}.json"],
    "histories": lambda name: [paths.base(name) / "history.csv"],
    "weights": lambda name: [paths.base(name) / "model.keras"],
    "runs": lambda name: [paths.base(name) / "run.json"],
}
_STACKERS: Aspects = {
    "predictions": lambda name: [paths.stacked(name, part) for part in ("oof", "nested", "test")],
    "label_sets": lambda name: _cross_fitted(paths.cross_fitted(name, stacker=True)),
    "rules": lambda name: [paths.stacker(name) / "thresholds.json"],
    "scores": lambda name: [paths.METRICS / "stack" / f"{name}.json"],
    "weights": lambda name: sorted(file for file in (paths.stacker(name) / "folds").rglob("*") if file.is_file()),
    "runs": lambda name: [paths.stacker(name) / "run.json"],
}
KINDS = {"base_models": _BASE_MODELS, "stackers": _STACKERS}


def run(kind: str) -> None:
    """Write data/members/<kind>.json: for every aspect, ``[name, digest]`` of each member in order."""
    params = load_params()
    if kind not in KINDS:
        raise UserError(f"{kind}: no such kind of members (there are: {', '.join(KINDS)})")
    names = list(params.models if kind == "base_models" else params.stackers)
    content = {aspect: [[name, _digest(files(name))] for name in names] for aspect, files in KINDS[kind].items()}
    storage.write_json(paths.members(kind), content)
    done("members", f"{len(names)} {kind.replace('_', ' ')}: {', '.join(names)}", paths.members(kind))


def _digest(files: list[Path]) -> str:
    """Of files' names and bytes; only nested predictions may be absent, since two folds have none."""
    there = [file for file in files if file.exists() or file.stem != "nested"]
    if lacking := [str(file) for file in there if not file.exists()]:
        raise UserError("\n".join(f"{file}: not found. Run `dvc repro` first." for file in lacking))
    return digest([[file.name, storage.sha256(file)] for file in there])
