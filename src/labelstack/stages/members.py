"""Members of the ensemble: who predicts, in which order, and where its files lie. Stage `members@{kind}` lists them.

Stages that read many members depend on that list and not on the folders that hold them: a folder also keeps what
params.yaml no longer names, and has no order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labelstack.params import Params, digest, load_params
from labelstack.params.blend import BLEND
from labelstack.stages import paths
from labelstack.stages.common import done
from labelstack.support import storage
from labelstack.support.errors import UserError

NetworksKind = Literal["base model", "second round"]  # members that are networks
Kind = Literal[NetworksKind, "stacker", "blend"]
ALL = "all"  # in place of a fold's number: the one network on all of train

# Of their MLflow runs.
_STAGES: dict[Kind, str] = {"base model": "train", "second round": "second", "stacker": "stack", "blend": "blend"}
# The key of run.json with a digest of what was learnt.
_DIGESTS: dict[Kind, str] = {"base model": "weights_digest", "second round": "weights_digest", "stacker": "digest"}
KIND_OF_STAGE: dict[str, Kind] = {stage: kind for kind, stage in _STAGES.items()}


@dataclass(frozen=True)
class Network:
    """One network of a base or second-round model; paths are relative to the folder of dvc.yaml or of a rebuilt one.

    Attributes
    ----------
    model : the model's name
    fold : which fold of train it did not learn from; ``all``: it is the only one, and learnt from all of train
    kind : of the model
    """

    model: str
    fold: str
    kind: NetworksKind = "base model"

    @property
    def name(self) -> str:
        """What tables, files and runs call it."""
        return self.model if self.fold == ALL else f"{self.model}-{self.fold}"

    @property
    def folder(self) -> Path:
        """Its weights, history.csv and run.json."""
        return Path(self._layout.folder.format(self.model, self.fold))

    @property
    def weights(self) -> Path:
        """What it has learnt."""
        return self.folder / "model.keras"

    @property
    def history(self) -> Path:
        """Its scores, epoch by epoch."""
        return self.folder / "history.csv"

    @property
    def run_file(self) -> Path:
        """Which MLflow run it is of."""
        return self.folder / "run.json"

    @property
    def predictions(self) -> Path:
        """The folder of what it predicts: ``oof``, rows that it did not learn from, ``test`` and ``audit``."""
        return Path(self._layout.predictions.format(self.model, self.fold))

    @property
    def run_name(self) -> tuple[str, str]:
        """Stage and name of its MLflow run."""
        return _STAGES[self.kind], self.name

    @property
    def _layout(self) -> paths.NetworkLayout:
        return paths.NETWORKS[self.kind]


@dataclass(frozen=True)
class Member:
    """A base or second-round model, a stacker or the blend; paths are relative to dvc.yaml's folder or a rebuilt one.

    Attributes
    ----------
    name : its key in params.yaml, which also names its row in tables; the blend is ``blend``
    kind : what it is
    folds : of a base or second-round model, what it has networks for
    """

    name: str
    kind: Kind
    folds: tuple[str, ...] = ()

    @property
    def _layout(self) -> paths.Layout:
        return paths.MEMBERS[self.kind]

    @property
    def folder(self) -> Path:
        """What it has learnt, its decision rule and its run.json."""
        return Path(self._layout.folder.format(self.name))

    @property
    def networks(self) -> list[Network]:
        """Of a base or second-round model: who predicts for it. New images get the mean of them."""
        if self.kind not in ("base model", "second round"):
            return []
        return [Network(self.name, fold, self.kind) for fold in self.folds]

    @property
    def curves(self) -> Path:
        """Of a base or second-round model: a folder with its networks' scores, epoch by epoch, for `dvc plots`."""
        return paths.METRICS / self._layout.curves.format(self.name)

    @property
    def learnt(self) -> Path:
        """The file or folder of what a stacker or the blend has learnt."""
        return self.folder / self._layout.learnt

    @property
    def rule(self) -> Path:
        """Its decision rule."""
        return self.folder / "thresholds.json"

    @property
    def run_file(self) -> Path:
        """Which MLflow run it is of."""
        return self.folder / "run.json"

    @property
    def digest_key(self) -> str:
        """The key of its run.json with a digest of what it has learnt."""
        return _DIGESTS[self.kind]

    @property
    def scores(self) -> Path:
        """Its scores on the stacking rows."""
        return paths.METRICS / f"{self._layout.scores.format(self.name)}.json"

    @property
    def predictions(self) -> Path:
        """The folder of its predictions."""
        return Path(self._layout.predictions.format(self.name))

    @property
    def oof(self) -> Path:
        """Predictions of the stacking rows, each by who did not learn from it."""
        return self.predictions / "oof.npy"

    @property
    def nested(self) -> Path:
        """Predictions of the stacking rows without each fold in turn; stackers alone have them, where nested."""
        return self.predictions / "nested.npy"

    @property
    def test(self) -> Path:
        """Predictions of the test rows."""
        return self.predictions / "test.npy"

    @property
    def audit(self) -> Path:
        """Predictions of the audit rows, as new images get them; only where there are such rows."""
        return self.predictions / "audit.npy"

    @property
    def cross_fitted(self) -> Path:
        """Label sets of the stacking rows by rules that were chosen without each fold in turn."""
        return self.predictions / "cross_fitted.npy"

    @property
    def digests(self) -> Path:
        """Of a second-round model: a digest of every aspect of it."""
        return self.predictions / "digests.json"

    @property
    def run_name(self) -> tuple[str, str]:
        """Stage and name of its MLflow run."""
        return _STAGES[self.kind], "ensemble" if self.kind == "blend" else self.name


THE_BLEND = Member(BLEND, "blend")


def base_model(name: str, folds: Sequence[str] = (ALL,)) -> Member:
    """The base model of a name."""
    return Member(name, "base model", tuple(folds))


def second_round_model(name: str, folds: Sequence[str] = (ALL,)) -> Member:
    """The second-round model of a name."""
    return Member(name, "second round", tuple(folds))


def stacker(name: str) -> Member:
    """The stacker of a name."""
    return Member(name, "stacker")


def base_models(params: Params) -> list[Member]:
    """Base models in the order of params.yaml."""
    return [base_model(name, params.networks) for name in params.models]


def second_round(params: Params) -> list[Member]:
    """Second-round models in the order of params.yaml."""
    return [second_round_model(name, params.networks) for name in params.second_round]


def network_members(params: Params) -> list[Member]:
    """Members that are networks: base models, then second-round models."""
    return [*base_models(params), *second_round(params)]


def cube_members(params: Params) -> list[Member]:
    """Whose predictions stackers learn from, in the order of the cube: of ``network_members`` those not flattered."""
    return [one for one in network_members(params) if one.name not in params.flattered]


def stackers(params: Params) -> list[Member]:
    """Stackers in the order of params.yaml."""
    return [stacker(name) for name in params.stackers]


def everyone(params: Params) -> list[Member]:
    """Base models, then second-round models, then stackers, then the blend: the order of every table."""
    return [*network_members(params), *stackers(params), THE_BLEND]


def oof_files(member: Member) -> list[str]:
    """Paths of the files with a member's out-of-fold predictions, below dvc.yaml's folder: one for each network."""
    files = [network.predictions / "oof.npy" for network in member.networks] or [member.oof]
    return [file.as_posix() for file in files]


def blended(params: Params) -> list[Member]:
    """Members of the blend in its order."""
    known = {member.name: member for member in everyone(params)}
    return [known[name] for name in params.blend_members()]


def _cross_fitted(member: Member) -> list[Path]:
    """Label sets, and the probabilities beside them that some metrics want."""
    file = member.cross_fitted
    return [file, *file.parent.glob(f"{file.stem}_probability.npy")]


def view_file(name: str) -> Path:
    """The table of which part of each image a second-round model sees."""
    found = paths.found_boxes(name)
    return found if found.exists() else paths.view(name)


def seen_files(name: str) -> list[Path]:
    """That table and, where networks say what is seen, the maps of where they look."""
    heat = paths.found_heat(name)
    return [view_file(name), *([heat] if heat.exists() else [])]


Aspects = dict[str, Callable[[Member], list[Path]]]
_OF_NETWORKS: Aspects = {
    "predictions": lambda member: [member.oof, member.test, member.audit],
    "label_sets": _cross_fitted,
    "rules": lambda member: [member.rule],
    "scores": lambda member: [member.scores],
    "histories": lambda member: [network.history for network in member.networks],
    "weights": lambda member: [network.weights for network in member.networks],
    "runs": lambda member: [member.run_file, *(network.run_file for network in member.networks)],
}
# What a second-round model may take of a base model: the same, and what each of its networks says.
_TAKEN: Aspects = _OF_NETWORKS | {
    "answers": lambda member: [one.predictions / f"{part}.npy" for one in member.networks for part in ("oof", "test")],
}
# What a reader may ask of a member → its files; the list of every aspect is one key of the stage's output.
_ASPECTS: dict[str, Aspects] = {
    "base_models": _OF_NETWORKS,
    "second_round": _OF_NETWORKS | {"views": lambda member: seen_files(member.name)},
    "stackers": {
        "predictions": lambda member: [member.oof, member.nested, member.test, member.audit],
        "label_sets": _cross_fitted,
        "rules": lambda member: [member.rule],
        "scores": lambda member: [member.scores],
        "weights": lambda member: sorted(_files(member.learnt)),
        "runs": lambda member: [member.run_file],
    },
}


def run(kind: str) -> None:
    """Write data/members/<kind>.json: for every aspect, ``[name, digest]`` of each member in order."""
    params = load_params()
    if kind not in _ASPECTS:
        raise UserError(f"{kind}: no such kind of members (there are: {', '.join(_ASPECTS)})")
    listed = {"base_models": base_models, "second_round": second_round, "stackers": stackers}
    members = listed[kind](params)
    digests = [_digests(member, _ASPECTS[kind]) for member in members]
    content = {
        aspect: [[member.name, of_member[aspect]] for member, of_member in zip(members, digests, strict=True)]
        for aspect in _ASPECTS[kind]
    }
    if kind == "second_round":  # what stackers learn from
        cube = {one.name for one in cube_members(params)}
        content["cube"] = [row for row in content["predictions"] if row[0] in cube]
    storage.write_json(paths.members(kind), content)
    names = ", ".join(member.name for member in members)
    done("members", f"{len(members)} {kind.replace('_', ' ')}: {names or 'none'}", paths.members(kind))


def _digests(member: Member, aspects: Aspects) -> dict[str, str]:
    """A digest of every aspect; of a second-round model as its own stage wrote them."""
    if member.kind != "second round":
        return {aspect: _digest(member, files(member)) for aspect, files in aspects.items()}
    content: dict[str, str] = storage.read_json(member.digests)
    return content


def write_digests(member: Member) -> None:
    """Write what `members` reads of a second-round model."""
    aspects = _ASPECTS["second_round"].items()
    storage.write_json(member.digests, {name: _digest(member, files(member)) for name, files in aspects})


def taken_of(member: Member, aspects: Sequence[str]) -> dict[str, str]:
    """A digest of some aspects of a base model."""
    return {aspect: _digest(member, _TAKEN[aspect](member)) for aspect in aspects}


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())


def _digest(member: Member, files: list[Path]) -> str:
    """Of files' names and bytes; nested predictions may be absent (two folds have none), and those of audit rows."""
    there = [file for file in files if file.exists() or file not in (member.nested, member.audit)]
    if lacking := [str(file) for file in there if not file.exists()]:
        raise UserError("\n".join(f"{file}: not found. Run `dvc repro` first." for file in lacking))
    return digest([[file.name, storage.sha256(file)] for file in there])
