"""Networks of timm beside ours: full ones and narrow twins, filled with the same drawn weights, and what timm answers.

timm and torch are imported where they are used, in an environment of their own; a torchvision that is absent there is
stood in for: timm asks for its names when it is imported, and these networks use none of them.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.seeded_weights import drawn, pixels

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)  # as ours, and TensorFlow's own, which timm rounds to 0.5
# The last normalization of a residual branch is made small, so that activations stay near 1 however deep the network.
_BRANCH = 0.2


@dataclass(frozen=True)
class Pair:
    """A network of timm's and ours.

    Attributes
    ----------
    backbone : ours, by its name
    options : of ours
    timm : name in timm
    arguments : of timm's builder, where it is a twin
    size : side of the image
    parameters : trainable ones without the classifier; 0: of a twin
    last : ends of the names of the normalizations that end a branch
    """

    backbone: str
    timm: str
    size: int
    parameters: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    last: str = "bn3.weight"
    scale: tuple[Any, Any] = IMAGENET


_NARROW = {"channels": (32, 48, 64, 96)}
_SQUEEZED = {"layers": (2, 1, 2, 1), "cardinality": 4, "base_width": 16, **_NARROW}
PAIRS: dict[str, Pair] = {
    "resnet34": Pair("resnet34", "resnet34", 224, 21_284_672, last="bn2.weight"),
    "resnet50_v1": Pair("resnet50_v1", "resnet50", 224, 23_508_032),
    "resnet152_v1": Pair("resnet152_v1", "resnet152", 224, 58_143_808),
    "se_resnext50": Pair("se_resnext50", "seresnext50_32x4d", 224, 25_510_896),
    "se_resnext50 legacy": Pair(
        "se_resnext50", "legacy_seresnext50_32x4d", 224, 25_510_896, options={"stem": "legacy"}
    ),
    "se_resnext101": Pair("se_resnext101", "seresnext101_32x4d", 224, 46_906_416),
    "se_resnext101 legacy": Pair(
        "se_resnext101", "legacy_seresnext101_32x4d", 224, 46_906_416, options={"stem": "legacy"}
    ),
    "densenet161": Pair("densenet161", "densenet161", 224, 26_472_000, last="-"),
    "efficientnet_lite0": Pair("efficientnet_lite0", "tf_efficientnet_lite0", 224, 3_371_008, scale=LITE),
    "efficientnet_lite1": Pair("efficientnet_lite1", "tf_efficientnet_lite1", 240, 4_135_680, scale=LITE),
    "efficientnet_lite2": Pair("efficientnet_lite2", "tf_efficientnet_lite2", 260, 4_811_072, scale=LITE),
}
TWIN_SIZES = (64, 75)  # one that strides divide, one that they do not
TWINS: dict[str, Pair] = {
    "basic": Pair("", "resnet34", 0, arguments={"layers": (2, 1, 2, 1), **_NARROW}, last="bn2.weight"),
    "bottleneck": Pair("", "resnet50", 0, arguments={"layers": (2, 1, 2, 1), **_NARROW}),
    "squeezed": Pair("", "seresnext50_32x4d", 0, arguments=_SQUEEZED),
    "squeezed legacy": Pair("", "legacy_seresnext50_32x4d", 0, arguments={"layers": (2, 1, 1, 1)}),
    "dense": Pair("", "densenet161", 0, arguments={"block_config": (2, 3, 2, 2), "growth_rate": 8}, last="-"),
    "lite": Pair("", "tf_efficientnet_lite0", 0, scale=LITE),
}


def filled(pair: Pair, shapes: Any) -> dict[str, NDArray[Any]]:
    """Drawn tensors for the names and shapes of a network, in PyTorch's order of axes."""
    tensors = drawn(shapes)
    for name in tensors:
        if name.endswith(pair.last):
            tensors[name] *= _BRANCH
    return tensors


def timm_network(pair: Pair) -> Any:
    """timm's network with drawn weights, in float64."""
    import torch

    network = _make(pair)
    shapes = [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]
    tensors = filled(pair, shapes)
    network.load_state_dict({name: torch.from_numpy(np.asarray(tensor)) for name, tensor in tensors.items()})
    return network.double().eval()


def timm_answer(network: Any, pair: Pair, size: int) -> NDArray[np.float64]:
    """Features [b, h, w, c]: what is left of a difference to them is the rounding of ours."""
    import torch

    mean, std = (np.asarray(values) for values in pair.scale)
    image = (pixels(size).astype(np.float64) / 255 - mean) / std
    with torch.inference_mode():
        features = network.forward_features(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    return np.asarray(features.permute(0, 2, 3, 1).numpy())


def stand_in_for_torchvision() -> None:
    if find_spec("torchvision") is None:
        sys.meta_path.append(_StandIn())


def _make(pair: Pair) -> Any:
    stand_in_for_torchvision()
    import timm
    from timm.models import efficientnet

    if pair.timm == "tf_efficientnet_lite0" and not pair.backbone:
        make: Callable[..., Any] = efficientnet._gen_efficientnet_lite
        return make(pair.timm, 0.25, 1.1, bn_eps=1e-3, pad_type="same")
    return timm.create_model(pair.timm, **pair.arguments)


class _Anything(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        own = name.partition(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if own else None

    def exec_module(self, module: Any) -> None:
        module.__getattr__ = lambda name: getattr(_Anything(module.__name__, (), {}), name)
