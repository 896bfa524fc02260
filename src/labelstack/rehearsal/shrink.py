"""A recipe's params made small. What the recipe does not state stays unstated, so that a missing key is found here."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from labelstack.params import Params
from labelstack.params.losses import PhasesSection
from labelstack.params.models import ModelSection
from labelstack.params.second_round import CropSection
from labelstack.params.task import FASHIONAI
from labelstack.rehearsal.twins import small_options, small_size
from labelstack.support.fashionai_values import VALUES

A_KIND = 2  # models of a backbone and stackers of a kind, at most
N_IMAGES = {"train": 60, "validation": 45, "test": 60}
N_ATTRIBUTES = {"train": 240, "test": 60}  # of eight attributes in turn, with `fashionai2018`
N_MASKED = {"train": 150, "test": 60}  # garments with masks, with `imaterialist2019`
_DRAWN = 0.3  # share of these that is drawn as validation
PICTURE = 96  # pixels, side of the made-up images
SAMPLE = "data/sample"
_ELSEWHERE = "data/rehearsal"  # for a root outside of the project
_HEAD, _BATCH = 64, 16
_MAP, _MAP_BATCH, _MAP_EPOCHS, _MAP_RATE = 64, 8, 12, 0.005  # of segmenters
_RATE = 0.5
_FEW = "last_2"  # groups of layers, which every network that can learn below its head has

# Largest (for greedy's step: smallest) values, by section and by kind of stacker.
_AT_MOST: dict[str, dict[str, int]] = {
    "images": {"store_size": 80, "shard_rows": 24, "concurrency": 8},
    "prediction": {"batch_size": 32},
    "tracking": {"probe_images": 8},
    "sample": {f"n_{split}": n for split, n in N_IMAGES.items()},
}
_STACKERS: dict[str, dict[str, Any]] = {
    "cnn": {"filters": 4, "units": 16, "epochs": 1, "batch_size": 32, "seeds": 1},
    "xgboost": {"n_estimators": 3, "max_depth": 2, "top_k": 4},
}
_GREEDY_STEP = 0.25
_K = 3  # the fewest folds that nest


def shrink(content: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """A recipe as a rehearsal runs it: small twins from scratch, one epoch, float32, one device, nothing elsewhere.

    Parameters
    ----------
    content : the recipe as it stands in the file
    params : the same, checked

    Returns
    -------
    dict
        Content for a params.yaml. Models: as few as show every backbone, loss, optimizer, pooling, schedule, way of
        resizing and option of the recipe, at most two of a backbone. Stackers: at most two of a kind. Of the second
        round what needs no files of boxes, which the made-up data does not have: students, crops about heat.
    """
    small: dict[str, Any] = json.loads(json.dumps(content))  # no two sections share an anchor's value
    for section, limits in _AT_MOST.items():
        if section in small:
            _limit(small[section], limits)
    _train_small(small)
    small["models"] = {name: _small_model(small["models"][name], params.models[name]) for name in kept_models(params)}
    _few_folds(small)
    _few_views(small)
    if "second_round" in small:
        small["second_round"] = _students(params, list(small["models"]))
    _all_groups(small)
    _segment_small(small, params)
    small["stackers"] = {name: _small_stacker(small["stackers"][name]) for name in kept_stackers(params)}
    _blend_small(small)
    _stay_here(small, params)
    return small


def kept_models(params: Params) -> list[str]:
    """Names of the models that are rehearsed, in the recipe's order."""
    traits = {name: set(_traits(model)) for name, model in params.models.items()}
    for section in params.second_round.values():
        if isinstance(section, CropSection) and section.heatmap is not None:
            traits[section.after[0]].add("heatmap")
    backbone = {name: model.backbone for name, model in params.models.items()}
    kept: list[str] = []
    shown: set[Hashable] = set()
    while True:
        free = [n for n in traits if n not in kept and [backbone[k] for k in kept].count(backbone[n]) < A_KIND]
        most = max(free, key=lambda name: len(traits[name] - shown), default=None)
        if most is None or not traits[most] - shown:
            return [name for name in traits if name in kept]
        kept.append(most)
        shown |= traits[most]


def kept_stackers(params: Params) -> list[str]:
    """Names of the stackers that are rehearsed, in the recipe's order."""
    kept: list[str] = []
    for name, stacker in params.stackers.items():
        if [params.stackers[other].kind for other in kept].count(stacker.kind) < A_KIND:
            kept.append(name)
    return kept


def _traits(model: ModelSection) -> Iterator[Hashable]:
    """What a model shows of the code: one value for each thing that decides which way it goes."""
    augment = model.augment if isinstance(model.augment, bool) else "own"
    yield from {
        "backbone": model.backbone,
        "loss": model.loss,
        "optimizer": model.optimizer,
        "resize": model.resize,
        "pooling": model.head.pooling,
        "dense": bool(model.head.units),
        "schedule": model.schedule.kind,
        "augment": augment,
        "mixup": (model.mixup > 0, model.cutmix > 0, model.mixup_per),
        "hard": model.hard_examples > 0,
        "ema": model.ema is not None,
        "smoothing": model.label_smoothing > 0,
        "views": tuple(model.tta or ()),
        "phases": tuple(phase.train for phase in model.phases),
        "features": model.features.variants > 0,
        "batch_norm": model.batch_norm,
        "groups": bool(model.groups),
        "soft_labels": bool(model.soft_labels != "none"),
        "group_rates": model.group_rates != 1,
        "step": (model.clip_norm is not None, model.accumulate > 1),
    }.items()
    for key, value in model.options.items():
        yield model.backbone, key, value if isinstance(value, bool) else None
    for fold in model.by_fold:
        yield from _traits(model.of_fold(fold))


def _all_groups(small: dict[str, Any]) -> None:
    """Label groups of models that are left out are dealt to those that are kept, so that each has one."""
    some = [model for model in small["models"].values() if model.get("groups")]
    if len(some) < len(small["models"]):  # another knows all
        return
    there = {group for model in some for group in model["groups"]}
    first = {name for section in small.get("second_round", {}).values() for name in section["after"]}
    some = [model for name, model in small["models"].items() if name not in first] or some
    for place, group in enumerate(group for group in VALUES if group not in there):
        some[place % len(some)]["groups"].append(group)


def _students(params: Params, models: list[str]) -> dict[str, Any]:
    """Second-round models that need no file, like the first of the kept models that they begin after."""
    small: dict[str, Any] = {}
    for name, section in params.second_round.items():
        after = [first for first in section.after if first in models]
        if after and not section.files():
            small[name] = section.own() | {"kind": section.kind, "after": after}
    return small


def _few_folds(small: dict[str, Any]) -> None:
    """As few folds as nest and as show every network of a fold that is made in another way; the first of them do."""
    overrides = [model["by_fold"] for model in small["models"].values() if model.get("by_fold")]
    made: dict[str, str] = {}  # how the networks of a fold are made → the first fold of this kind
    for fold in sorted({key for one in overrides for key in one}, key=int):
        made.setdefault(json.dumps([one.get(fold) for one in overrides], sort_keys=True), fold)
    places = {fold: str(place) for place, fold in enumerate(made.values())}
    if "k" in small.get("folds", {}):
        _limit(small["folds"], {"k": max(_K, len(places)), "rare": 1})  # of so few images
        for one in overrides:
            moved = {places[fold]: section for fold, section in one.items() if fold in places}
            one.clear()
            one.update(moved)
        if small.get("base_models", ["all"]) != ["all"]:
            small["base_models"] = list(range(small["folds"]["k"]))


def _few_views(small: dict[str, Any]) -> None:
    """Of crops that belong together one, of random ones two: each way to cut is gone, and few cuts."""
    for view in small.get("prediction", {}).get("views", {}).values():
        _limit(view, {"n": 2})
        if view.get("crop") in ("five", "nine"):
            view["crop"] = "top_left"


def _small_model(model: dict[str, Any], checked: ModelSection) -> dict[str, Any]:
    options = small_options(checked.backbone, checked.options)
    small = model | {
        "weights": "none",
        "image_size": small_size(checked.backbone, checked.image_size, options),
        "options": options,
        "head": model.get("head", {}) | {"units": [min(units, _HEAD) for units in checked.head.units]},
        "batch_size": min(checked.batch_size, _BATCH),
        "epochs": 1,
    }
    if isinstance(checked.loss, PhasesSection) and "loss" in model:  # an epoch each
        phases = [phase | {"epochs": 1} for phase in model["loss"]["of"][:-1]]
        small["loss"] = model["loss"] | {"of": [*phases, model["loss"]["of"][-1]]}
    if isinstance(checked.loss, PhasesSection):
        small["epochs"] = len(checked.loss.of)
    if checked.phases:
        small["phases"] = _small_phases(model, checked, small["epochs"])
        small["epochs"] = sum(phase["epochs"] for phase in small["phases"])
    if small.get("features", {}).get("variants"):
        small["features"] = small["features"] | {"variants": 1}
    if isinstance(small.get("group_rates"), list):
        small["group_rates"] = _RATE  # one for each group, of which a twin has fewer
    for section in [small, *small.get("phases", [])]:
        if "warmup_epochs" in (section.get("schedule") or {}):
            section["schedule"]["warmup_epochs"] = 0
    if "by_fold" in model:
        small["by_fold"] = {
            fold: _small_model(section, checked.of_fold(fold)) for fold, section in model["by_fold"].items()
        }
    return small


def _small_phases(model: dict[str, Any], checked: ModelSection, epochs: int) -> list[dict[str, Any]]:
    """An epoch each, of the last so many that all losses come; a twin has few groups of layers."""
    stated = model["phases"] if "phases" in model else [phase.model_dump(mode="json") for phase in checked.phases]
    groups = {phase["train"] for phase in stated} - {"head", "all"}
    small = [phase | {"epochs": 1} | ({"train": _FEW} if phase["train"] in groups else {}) for phase in stated]
    small[-1]["epochs"] = max(1, epochs - len(small) + 1)
    return small


def _small_stacker(stacker: dict[str, Any]) -> dict[str, Any]:
    limits = _STACKERS.get(stacker["kind"], {})
    small = stacker | {key: limit for key, limit in limits.items() if key not in stacker and key != "filters"}
    _limit(small, limits)
    if small.get("device"):
        small["device"] = "cpu"
    if small["kind"] == "greedy":
        small["step"] = max(small.get("step", 0), _GREEDY_STEP)
    return small


def _segment_small(small: dict[str, Any], params: Params) -> None:
    """Segmenters that learn enough of a few garments to find some, all at one rate, in one phase for each of theirs."""
    for name, section in small.get("segmenters", {}).items():
        checked = params.segmenters[name]
        phases = [
            phase
            | {
                "epochs": _MAP_EPOCHS if phase is section["phases"][-1] else 1,
                "cycles": 1,
                "image_size": _MAP,
                "batch_size": _MAP_BATCH,
                "learning_rate": _MAP_RATE,
                "group_rates": [1, 1, 1],
            }
            for phase in section["phases"]
        ]
        options = small_options(checked.backbone, checked.options)
        section.update(weights="none", options=options, phases=phases)
    for section in small.get("regions", {}).values():
        section["size"] = _MAP
    for section in small.get("region_rows", {}).values():
        section.update(size=PICTURE, learn_from="all")


def _train_small(small: dict[str, Any]) -> None:
    training = small.get("training")
    if training is None:
        return
    training.update(workers=1, mixed_precision=False, multi_gpu=False)
    if "jit_compile" in training:
        training["jit_compile"] = False
    if training.get("holdout"):
        training["holdout"] = max(training["holdout"], 0.15)  # some images, of so few


def _blend_small(small: dict[str, Any]) -> None:
    blend = small.get("blend")
    if blend is None:
        return
    names = {*small["models"], *small.get("second_round", {}), *small["stackers"]}
    if "members" in blend:
        blend["members"] = [name for name in blend["members"] if name in names]
    if "step" in blend:
        blend["step"] = max(blend["step"], _GREEDY_STEP)


def _stay_here(small: dict[str, Any], params: Params) -> None:
    """No store, cluster, bucket or folder but those of the rehearsal's own folder."""
    small.pop("engine", None)
    small.pop("notify", None)
    small.setdefault("tracking", {})["uri"] = "sqlite:///mlflow.db"
    if "alone" in small["tracking"]:
        there = {*small["models"], *small.get("second_round", {})}
        small["tracking"]["alone"] = [name for name in small["tracking"]["alone"] if name in there]
    if "artifacts" in small["tracking"]:
        small["tracking"]["artifacts"] = None
    dataset = small.setdefault("dataset", {})
    if params.dataset.format == FASHIONAI and params.dataset.validation:
        dataset["validation"] = _DRAWN
    pure = PurePosixPath(params.dataset.root)
    if pure.is_absolute() or ".." in pure.parts:
        dataset["root"] = _ELSEWHERE
    if dataset.get("corrections"):
        dataset["corrections"] = None  # of images that the made-up data does not have
    if dataset.get("answers"):
        dataset["answers"] = f"{dataset.get('root', params.dataset.root)}/test_answers.json"


def _limit(section: dict[str, Any], limits: Mapping[str, int]) -> None:
    """Whole numbers, and those of lists, cut down to the limits; null stays null."""
    for key, limit in limits.items():
        value = section.get(key)
        if isinstance(value, list):
            section[key] = [min(each, limit) for each in value]
        elif isinstance(value, int):
            section[key] = min(value, limit)
