"""The folder of an ensemble that the registry keeps.

It holds everything that prediction needs::

    ensemble.json                   models with their views (in the cube's order), stackers, settings
    members/<model>/model.keras     base, second-round models; with a network a fold: <model>/<fold>/model.keras
    stackers/<stacker>/             fold models of each stacker
    blend.json                      {"weights": {member: weight}}
    thresholds.json                 the decision rule: {"strategy", "thresholds": {label_id: …} or null, "decision"}
    regions.json                    where photos are labelled region by region: see ``region_form.RegionForm``
    segmenters/<name>/<fold>/       model.keras and segmenter.json of each network that finds regions
    labels.json                     [{"label_id": …, "name": …}] in the order of the probability columns
    files/                          params.yaml, dvc.lock, requirements.lock and the like, for rebuilding
    record/                         what the ensemble predicted on the day it was registered: see ``record.Record``
    checksums.json                  {file: SHA-256} of every other file

``Ensemble`` needs neither ``files/``, ``record/`` nor ``checksums.json``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import labelstack
from labelstack.ensemble.record import Record, write_checksums, write_record
from labelstack.ensemble.region_form import REGIONS, SEGMENTER_FILES, RegionForm, read_region_form, segmenter_folder
from labelstack.ensemble.spec_check import form_problems
from labelstack.params.images import Damaged
from labelstack.params.models import Resize
from labelstack.params.prediction_views import Combine, OneView, one_view
from labelstack.params.region_view import PLAIN, RegionView
from labelstack.params.task import MULTI, SINGLE, Task
from labelstack.predictions import other_columns
from labelstack.support.box import Box
from labelstack.support.dtypes import Dtype
from labelstack.support.errors import InputProblems
from labelstack.support.storage import read_json, write_json

ONLY = "all"  # in place of a fold's number: the one network of a base model


@dataclass(frozen=True)
class EnsembleSettings:
    """How images are fetched, read and predicted: ``prediction`` and part of ``images`` in params.yaml.

    What a version does not name takes the default here: versions from before ``damaged`` refuse damaged images too,
    those from before ``task`` give any number of labels, those from before ``combine`` average probabilities.
    ``dtype`` says how all that members say is rounded before it is used, see ``support.logits.as_kept``.

    ``tta`` are the views of networks that have none of their own, as ``OneView.as_json`` has them.
    """

    tta: tuple[str | dict[str, Any], ...] = ("identity", "hflip")
    batch_size: int = 64
    store_size: int = 256
    jpeg_quality: int = 90
    damaged: Damaged = "refuse"
    fetch: Mapping[str, Any] = field(default_factory=dict)  # from sources.fetch_settings
    task: Task = MULTI
    combine: Combine = "probability"
    dtype: Dtype = "float32"

    @property
    def exclusive(self) -> bool:
        """Whether every image gets exactly one label."""
        return self.task == SINGLE


@dataclass(frozen=True)
class View:
    """How a network sees an image: side in pixels, ``stretch`` or ``letterbox``, and of which part; None: the whole.

    A network that learnt from parts sees new images whole, which have no box, unless its model has a ``Heat``.
    ``region`` says what it is given of a region beside its pixels. ``tta`` are its own test-time views; none: those of
    the settings.
    """

    image_size: int
    resize: Resize = "stretch"
    box: Box | None = None
    tta: tuple[OneView, ...] = ()
    region: RegionView = PLAIN


@dataclass(frozen=True)
class Heat:
    """Where a second-round model looks in a new image: at what the networks of the model ``of`` look at.

    Attributes
    ----------
    threshold : share of a map's largest value above which there is heat
    margin : share of the box's sides that is added all round
    """

    of: str
    threshold: float
    margin: float = 0


@dataclass(frozen=True)
class NetworkPart:
    """A network of a base model: ``all``, or the fold of train that it did not learn from; its file and its view."""

    fold: str
    file: Path
    view: View


@dataclass(frozen=True)
class Parts:
    """What an ensemble is made of.

    Attributes
    ----------
    models : mapping of name to its networks, base and second-round models in the order of the cube
    stackers : mapping of name to the folder that ``FoldEnsemble.save`` wrote
    blend, thresholds : the JSON files of the stage ``blend``
    labels : sequence of (label_id, name), in the order of the probability columns
    files : mapping of file name to file, kept for rebuilding
    record : what the ensemble predicted, kept for comparing and rebuilding
    second_round : names of those models that are second-round ones
    heatmaps : of those of them that see of new images what another model looks at
    students : names of those that stackers do not see
    regions : what finds regions of photos and says what becomes of them, where these are what the ensemble labels
    segmenters : of its segmenters by name and fold, the folders that ``Segmenter.save`` wrote
    """

    models: Mapping[str, Sequence[NetworkPart]]
    stackers: Mapping[str, Path]
    blend: Path
    thresholds: Path
    labels: Sequence[tuple[int, str]]
    settings: EnsembleSettings = EnsembleSettings()
    files: Mapping[str, Path] = field(default_factory=dict)
    record: Record | None = None
    second_round: Sequence[str] = ()
    heatmaps: Mapping[str, Heat] = field(default_factory=dict)
    students: Sequence[str] = ()
    regions: RegionForm | None = None
    segmenters: Mapping[tuple[str, str], Path] = field(default_factory=dict)

    @property
    def heatmaps_there(self) -> dict[str, Heat]:
        """Those whose models are both there: one registered alone sees new images whole."""
        return {name: heat for name, heat in self.heatmaps.items() if {name, heat.of} <= set(self.models)}

    @property
    def names(self) -> list[str]:
        """Of all members."""
        return [*self.models, *self.stackers]


def assemble_folder(folder: Path, parts: Parts) -> None:
    """Lay out an ensemble in an empty folder; raise ``InputProblems`` naming everything that is missing."""
    networks = [network.file for model in parts.models.values() for network in model]
    needed = [*networks, parts.blend, parts.thresholds, *parts.files.values()]
    needed += [parts.record.labels] if parts.record else []
    needed += [source / name for source in parts.segmenters.values() for name in SEGMENTER_FILES]
    problems = [f"{path}: not found" for path in needed if not Path(path).is_file()]
    problems += [f"{path}: no such folder" for path in parts.stackers.values() if not Path(path).is_dir()]
    if problems:
        raise InputProblems("ensemble", problems)
    for name, networks_ in parts.models.items():
        for network in networks_:
            _link(network.file, folder / network_file(name, network.fold))
    for name, source in parts.stackers.items():
        shutil.copytree(source, folder / "stackers" / name, copy_function=_link)
    for (name, fold), source in parts.segmenters.items():
        for part in SEGMENTER_FILES:
            _link(source / part, folder / segmenter_folder(name, fold) / part)
    if parts.regions is not None:
        write_json(folder / REGIONS, parts.regions.model_dump(mode="json"))
    _link(parts.blend, folder / "blend.json")
    _link(parts.thresholds, folder / "thresholds.json")
    for name, file in parts.files.items():
        _link(file, folder / "files" / name)
    write_json(folder / "labels.json", [{"label_id": int(i), "name": name} for i, name in parts.labels])
    heatmaps = parts.heatmaps_there
    description = {
        "labelstack": labelstack.__version__,
        "models": {name: _described(networks_) for name, networks_ in parts.models.items()},
        "stackers": list(parts.stackers),
        "settings": asdict(parts.settings),
        **({"second_round": list(parts.second_round)} if parts.second_round else {}),
        **({"heatmaps": {name: asdict(heat) for name, heat in heatmaps.items()}} if heatmaps else {}),
        **({"students": list(parts.students)} if parts.students else {}),
    }
    write_json(folder / "ensemble.json", description)
    if parts.record:
        write_record(folder, parts.record)
    read_spec(folder)
    write_checksums(folder)


def network_file(name: str, fold: str) -> str:
    """Where the weights of a base model's network lie in an ensemble's folder."""
    return f"members/{name}/model.keras" if fold == ONLY else f"members/{name}/{fold}/model.keras"


def _described(networks: Sequence[NetworkPart]) -> dict[str, Any]:
    """A base model in ensemble.json: its view, of several networks one for each fold."""
    if [network.fold for network in networks] == [ONLY]:
        return _described_view(networks[0].view)
    return {"networks": {network.fold: _described_view(network.view) for network in networks}}


def _described_view(view: View) -> dict[str, Any]:
    own = {"tta": [one.as_json() for one in view.tta]} if view.tta else {}
    given = {} if view.region == PLAIN else {"region": view.region._asdict()}
    return {"image_size": view.image_size, "resize": view.resize, **given, **own}


def _views(entry: Mapping[str, Any]) -> dict[str, View]:
    networks = entry.get("networks", {ONLY: entry})
    return {
        fold: View(
            **{
                **view,
                "tta": tuple(map(one_view, view.get("tta", ()))),
                "region": RegionView(**view.get("region", {})),
            }
        )
        for fold, view in networks.items()
    }


@dataclass(frozen=True)
class Spec:
    """What ``Ensemble`` reads from the folder.

    Attributes
    ----------
    views : of each base model, in the order of the cube: the views of its networks by fold, ``all`` for the only one
    decision : a rule as ``Decision.to_dict`` wrote it
    groups : what a blend within label groups has of its own, as ``GroupMix.to_dict`` wrote it; None: it is plain
    regions : how regions are found in photos, which are what the ensemble labels; None: it labels images
    """

    views: dict[str, dict[str, View]]
    stackers: list[str]
    weights: dict[str, float]
    decision: dict[str, Any]
    label_id: list[int]
    labels: list[str]
    settings: EnsembleSettings
    second_round: list[str] = field(default_factory=list)
    groups: dict[str, Any] | None = None
    heatmaps: dict[str, Heat] = field(default_factory=dict)
    students: list[str] = field(default_factory=list)
    regions: RegionForm | None = None

    def tta(self, view: View) -> tuple[OneView, ...]:
        """The test-time views of a network: its own, or those of all."""
        return view.tta or tuple(map(one_view, self.settings.tta))

    @property
    def blended(self) -> dict[str, float]:
        """Members with a weight above 0."""
        return {name: weight for name, weight in self.weights.items() if weight > 0}

    @property
    def needed_stackers(self) -> list[str]:
        """Stackers that have a say in the blend."""
        return [name for name in self.stackers if name in self.blended]

    @property
    def cube(self) -> list[str]:
        """Models whose predictions stackers see, in their order."""
        return [name for name in self.views if name not in self.students]

    @property
    def needed_models(self) -> list[str]:
        """Models to run: all of the cube as soon as a stacker needs it, and those in the blend."""
        cube = self.cube if self.needed_stackers else []
        return [name for name in self.views if name in cube or name in self.blended]


def read_spec(folder: Path) -> Spec:
    """Read an ensemble's folder; raise ``InputProblems`` when its files are ill-formed or contradict each other."""
    content = read_json(folder / "ensemble.json")
    labels = read_json(folder / "labels.json")
    blend = read_json(folder / "blend.json")
    rule = read_json(folder / "thresholds.json")
    if ill_formed := form_problems(content, labels, blend, rule):
        raise InputProblems(str(folder), ill_formed)
    weights = blend["weights"]
    thresholds = rule["thresholds"]
    label_id = [int(entry["label_id"]) for entry in labels]
    known = {*content["models"], *content["stackers"]}
    cube = [name for name in content["models"] if name not in content.get("students", [])]
    problems = [f"blend.json: the member {n!r} is neither a base model nor a stacker" for n in set(weights) - known]
    if thresholds is not None and set(thresholds) != {str(i) for i in label_id}:
        problems.append(f"thresholds.json: expected a threshold for each of the {len(label_id)} labels")
    problems += _group_problems(blend.get("groups"), weights, rule["decision"], len(label_id))
    if not any(weight > 0 for weight in weights.values()):
        problems.append("blend.json: no member has a weight above 0")
    for name in content["stackers"]:
        file = folder / "stackers" / name / "config.json"
        config = read_json(file) if file.exists() else {}
        columns = config.get("columns") if isinstance(config, dict) else []  # versions of before name none
        if problem := other_columns(columns, cube):
            problems.append(f"stacker {name}: {problem}")
    problems += [
        f"ensemble.json: the heat map of {name} is of {heat['of']!r}, which is no model of it"
        for name, heat in content.get("heatmaps", {}).items()
        if not {name, heat["of"]} <= set(content["models"])
    ]
    if problems:
        raise InputProblems("ensemble", sorted(problems))
    settings = content["settings"]
    try:
        views = {name: _views(entry) for name, entry in content["models"].items()}
        [one_view(view) for view in settings["tta"]]
    except (TypeError, ValueError) as error:
        raise InputProblems(str(folder), [f"ensemble.json: a test-time view that is none ({error})"]) from None
    return Spec(
        views=views,
        stackers=list(content["stackers"]),
        weights={name: float(weight) for name, weight in weights.items()},
        decision=rule["decision"],
        label_id=label_id,
        labels=[str(entry["name"]) for entry in labels],
        settings=EnsembleSettings(**{**settings, "tta": tuple(settings["tta"])}),
        second_round=list(content.get("second_round", [])),
        groups=blend.get("groups"),
        heatmaps={name: Heat(**heat) for name, heat in content.get("heatmaps", {}).items()},
        students=list(content.get("students", [])),
        regions=read_region_form(folder),
    )


def _group_problems(
    groups: Mapping[str, Any] | None, weights: Mapping[str, float], decision: Mapping[str, Any], n_labels: int
) -> list[str]:
    """Where a blend within label groups does not fit its labels, members or rule."""
    if groups is None:
        return []
    names = len(set(groups["group"]))
    found = [f"blend.json: groups.group names {len(groups['group'])} labels, there are {n_labels}"]
    found = found if len(groups["group"]) != n_labels else []
    for key in ("of_group", "temperature"):
        if set(groups[key]) != set(weights) or any(len(own) != names for own in groups[key].values()):
            found.append(
                f"blend.json: groups.{key}: expected {names} numbers, one for each label group, of every member"
            )
    if list(decision.get("group", ())) != list(groups["group"]):
        found.append("thresholds.json: decision.group: expected the label groups of blend.json")
    return found


def _link(source: Any, target: Any) -> None:
    """A hard link where the file system allows it, else a copy: weights are large."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
