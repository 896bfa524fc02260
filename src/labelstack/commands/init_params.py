"""A params.yaml for a data set and a machine: as much training as half an hour of processor time a core pays for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from labelstack.params.second_level_file import SHIPPED_STACKERS
from labelstack.params.task import SINGLE

# An image, once through one of the small networks below, forward and backward: 28 minutes of processor time for the 9
# networks of recipes/photos.yaml, 700 images and 40 to 60 epochs (docs/benchmarks.md).
SECONDS_AN_IMAGE = 0.0045
SEED = 2018
_BUDGET_S = 1800  # of every core, for all networks
_FEW = 3000  # images too few to keep any out for early stopping
_MOST_CHOSEN = 10_000  # images of validation and of test that are enough for intervals of a hundredth
_MANY_LABELS = 1000  # beyond, boosted trees and the CNN of the second level cost more than they give
_LITTLE_MEMORY_GB = 6


@dataclass(frozen=True)
class Machine:
    """What there is to train on."""

    cores: int
    memory_gb: float
    gpu: str | None


@dataclass(frozen=True)
class DataSize:
    """What there is to learn from: images of train and validation (before any are drawn), labels, usual short side."""

    images: int
    labels: int
    side: int


def shares(images: int) -> dict[str, float]:
    """``table.test`` and ``table.validation``: a fifth of few images, of many no more than are of use."""
    most = _MOST_CHOSEN / max(images, 1)
    return {"test": _rounded(min(0.15, most)), "validation": _rounded(min(0.25 if images < _FEW else 0.2, most))}


def folds(validation: int) -> int:
    """``folds.k``: fewer where a fold would be a handful of images."""
    return 5 if validation >= 100 else 3 if validation >= 30 else 2


def content(name: str, dataset: dict[str, Any], size: DataSize, validation: int, machine: Machine) -> dict[str, Any]:
    """All of params.yaml that is not a default.

    Parameters
    ----------
    name : of the experiment and the registered model
    dataset : the section of this name
    size : images of train alone
    validation : images
    """
    few = size.images < _FEW
    single = dataset["task"] == SINGLE
    training = {"holdout": 0 if few else 0.1, "patience": None if few else 5}
    if machine.gpu:
        training["mixed_precision"] = True
    if machine.memory_gb < _LITTLE_MEMORY_GB:
        training["workers"] = 1
    return {
        "seed": SEED,
        "dataset": dataset,
        "augment": _AUGMENT,
        "training": training,
        "base_models": ["all"],
        "models": _on_gpu(size) if machine.gpu else _on_cores(size, machine.cores),
        "folds": {"k": folds(validation), "seed": 0, "nested": size.labels <= _MANY_LABELS},
        "stackers": _stackers(size.labels, validation),
        "blend": {"members": [], "method": "log_loss"},
        "metric": {"primary": "samples", "beta": 1},
        "thresholds": _ONE_LABEL if single else {"strategy": "auto", "calibration": "platt", "fixed": 0.3},
        "submission": {"directory": "submission", "filename": "submission.csv", "missing": "prior"},
        "tracking": {"uri": "sqlite:///mlflow.db", "experiment": name, "registered_model": name},
    }


def cost_s(models: dict[str, Any], images: int) -> float:
    """Seconds of processor time that training takes on a CPU, roughly."""
    weight = {name: (model["image_size"] / 64) ** 2 for name, model in models.items()}
    return sum(model["epochs"] * images * SECONDS_AN_IMAGE * weight[name] for name, model in models.items())


def plain_name(text: str) -> str:
    """A name that MLflow takes, made of a folder's."""
    return re.sub(r"[^\w -]+", "_", text, flags=re.ASCII).strip(" _.-") or "labelstack"


_ONE_LABEL = {"strategy": "argmax", "calibration": "temperature"}
_AUGMENT: dict[str, Any] = {  # shapes may move a little; colours stay, since labels may name them
    "flip": 0.5,
    "rotate": [-10, 10],
    "scale": [0.88, 1.12],
    "shift": [-0.05, 0.05],
    "shear": [-5, 5],
    "hue_and_saturation": [0, 0],
    "gaussian_blur": [0, 0],
    "contrast": [1, 1],
    "sharpen": [0, 0],
    "emboss": [0, 0],
    "crop": [0, 0],
    "chance": 0.9,
}


def _rounded(share: float) -> float:
    return max(0.001, round(share, 3))


def _on_cores(size: DataSize, cores: int) -> dict[str, Any]:
    """Small unlike networks from scratch, as recipes/photos.yaml has them."""
    side = 64 if size.side >= 64 else 32
    cosine = {"kind": "cosine", "warmup_epochs": 2}
    usual = {"optimizer": "adamw", "weight_decay": 0.01, "schedule": cosine}
    models: dict[str, Any] = {
        "plain_cnn": {
            "backbone": "small_cnn",
            "image_size": side,
            "options": {"filters": [24, 48, 96, 128]},
            "head": {"pooling": "max", "units": [256], "dropout": 0.4},
            "learning_rate": 0.002,
            "schedule": cosine,
        },
        "colours": {
            "backbone": "pixels",
            "image_size": side,
            "head": {"pooling": "average", "units": [64], "dropout": 0.3},
            "learning_rate": 0.004,
            **usual,
            "weight_decay": 0.001,
            "augment": {"flip": 0.5, "chance": 0},
            "seed": 1,
        },
        "silhouette": {
            "backbone": "silhouette",
            "image_size": side,
            "resize": "letterbox",
            "head": {"pooling": "flatten", "units": [128], "dropout": 0.4},
            "learning_rate": 0.002,
            **usual,
            "seed": 2,
        },
        "joint": {
            "backbone": "silhouette_pixels",
            "image_size": side,
            "resize": "letterbox",
            "head": {"pooling": "flatten", "units": [], "dropout": 0},
            "learning_rate": 0.004,
            **usual,
            "seed": 3,
        },
    }
    epochs = int(_BUDGET_S * cores / (len(models) * SECONDS_AN_IMAGE * max(size.images, 1)))
    return {name: {**model, "epochs": min(60, max(4, epochs))} for name, model in models.items()}


def _on_gpu(size: DataSize) -> dict[str, Any]:
    """Networks that know ImageNet, whole, at the size that they know it in."""
    names = {"efficientnet": "efficientnet_b0", "resnet": "resnet50", "densenet": "densenet121"}
    epochs = min(15, max(3, 600_000 // max(size.images, 1)))
    return {
        name: {
            "backbone": backbone,
            "weights": "imagenet",
            "image_size": 224 if size.side >= 128 else 128,
            "head": {"pooling": "average", "units": [512], "dropout": 0.4},
            "batch_size": 32,
            "epochs": epochs,
            "optimizer": "adamw",
            "learning_rate": 0.0003,
            "weight_decay": 0.01,
            "schedule": {"kind": "cosine", "warmup_epochs": 1},
            "seed": seed,
        }
        for seed, (name, backbone) in enumerate(names.items())
    }


def _stackers(labels: int, validation: int) -> dict[str, Any]:
    """Those of the embedded default, without what so many labels or so few images make no sense for."""
    left_out = {"xgboost", "cnn"} if labels > _MANY_LABELS or validation < 100 else set()
    chosen = {name: dict(section) for name, section in SHIPPED_STACKERS.items() if name not in left_out}
    return {"mean": {"kind": "mean"}, **chosen} if validation < 100 else chosen
