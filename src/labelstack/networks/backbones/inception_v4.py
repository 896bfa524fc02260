"""Inception-v4 (Szegedy et al. 2016), layers and names as in timm's ``inception_v4``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
from keras import layers
from numpy.typing import NDArray

from labelstack.networks.backbones.architecture import Architecture, plus_minus_one
from labelstack.networks.backbones.pretrained import put_by_name
from labelstack.networks.backbones.torch_layers import batch_norm, convolution, rectified

_EPSILON = 1e-3


class _Unit(NamedTuple):
    """Convolution, batch normalization, ReLU."""

    filters: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: str = "same"


_AVERAGE = "average"  # 3 × 3, the border's mean is of what lies inside
_MAX = "max"  # 3 × 3, halves
_Branches = Mapping[str, Sequence[_Unit | str]]


def _halving(filters: int) -> _Unit:
    return _Unit(filters, 3, 2, "valid")


_STEM = (_halving(32), _Unit(32, 3, 1, "valid"), _Unit(64, 3))
_MIXED_3A: _Branches = {"maxpool": [_MAX], "conv": [_halving(96)]}
_MIXED_4A: _Branches = {
    "branch0": [_Unit(64), _Unit(96, 3, 1, "valid")],
    "branch1": [_Unit(64), _Unit(64, (1, 7)), _Unit(64, (7, 1)), _Unit(96, 3, 1, "valid")],
}
_MIXED_5A: _Branches = {"conv": [_halving(192)], "maxpool": [_MAX]}
_A: _Branches = {
    "branch0": [_Unit(96)],
    "branch1": [_Unit(64), _Unit(96, 3)],
    "branch2": [_Unit(64), _Unit(96, 3), _Unit(96, 3)],
    "branch3": [_AVERAGE, _Unit(96)],
}
_REDUCTION_A: _Branches = {
    "branch0": [_halving(384)],
    "branch1": [_Unit(192), _Unit(224, 3), _halving(256)],
    "branch2": [_MAX],
}
_B: _Branches = {
    "branch0": [_Unit(384)],
    "branch1": [_Unit(192), _Unit(224, (1, 7)), _Unit(256, (7, 1))],
    "branch2": [_Unit(192), _Unit(192, (7, 1)), _Unit(224, (1, 7)), _Unit(224, (7, 1)), _Unit(256, (1, 7))],
    "branch3": [_AVERAGE, _Unit(128)],
}
_REDUCTION_B: _Branches = {
    "branch0": [_Unit(192), _halving(192)],
    "branch1": [_Unit(256), _Unit(256, (1, 7)), _Unit(320, (7, 1)), _halving(320)],
    "branch2": [_MAX],
}


def network(image_size: int, width: float = 1.0, repeats: tuple[int, int, int] = (4, 7, 3)) -> keras.Model:
    """Preprocessed image [b, S, S, 3] → feature map [b, h, w, 1536 · width], weights drawn.

    Parameters
    ----------
    image_size : at least 75
    width : factor of every layer's filters
    repeats : of the blocks A, B and C
    """
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    x = image
    for number, unit in enumerate(_STEM):
        x = _unit(x, unit, width, f"features.{number}")
    a, b, c = repeats
    blocks = [_MIXED_3A, _MIXED_4A, _MIXED_5A, *[_A] * a, _REDUCTION_A, *[_B] * b, _REDUCTION_B]
    for number, branches in enumerate(blocks, start=len(_STEM)):
        x = _block(x, branches, width, f"features.{number}")
    for number in range(c):
        x = _block_c(x, width, f"features.{len(_STEM) + len(blocks) + number}")
    return keras.Model(image, x, name="inception_v4")


def load_state(body: keras.Model, tensors: Mapping[str, NDArray[Any]], source: str) -> None:
    """Put a state dict of timm's ``inception_v4`` into a ``network``; see ``pretrained.put_by_name``.

    The classifier, which is not used, may have any number of classes.
    """
    put_by_name(body, tensors, "last_linear", source)


def _block(x: Any, branches: _Branches, width: float, name: str) -> Any:
    ends = []
    for branch, steps in branches.items():
        end = x
        for number, step in enumerate(steps):
            place = f"{name}.{branch}.{number}" if len(steps) > 1 else f"{name}.{branch}"
            end = _unit(end, step, width, place) if isinstance(step, _Unit) else _pool(end, step, place)
        ends.append(end)
    return layers.Concatenate(name=name)(ends)


def _block_c(x: Any, width: float, name: str) -> Any:
    """The last kind of block, two of whose branches fork."""

    def unit(before: Any, filters: int, kernel: int | tuple[int, int], part: str) -> Any:
        return _unit(before, _Unit(filters, kernel), width, f"{name}.{part}")

    one = unit(x, 384, 1, "branch1_0")
    two = unit(unit(unit(x, 384, 1, "branch2_0"), 448, (3, 1), "branch2_1"), 512, (1, 3), "branch2_2")
    ends = [
        unit(x, 256, 1, "branch0"),
        unit(one, 256, (1, 3), "branch1_1a"),
        unit(one, 256, (3, 1), "branch1_1b"),
        unit(two, 256, (1, 3), "branch2_3a"),
        unit(two, 256, (3, 1), "branch2_3b"),
        unit(_pool(x, _AVERAGE, f"{name}.branch3.0"), 256, 1, "branch3.1"),
    ]
    return layers.Concatenate(name=name)(ends)


def _unit(x: Any, unit: _Unit, width: float, name: str) -> Any:
    filters = max(1, round(unit.filters * width))
    x = convolution(x, filters, unit.kernel, f"{name}.conv", stride=unit.stride, padding=unit.padding)
    return rectified(batch_norm(x, f"{name}.bn", epsilon=_EPSILON), f"{name}.relu")


def _pool(x: Any, kind: str, name: str) -> Any:
    if kind == _MAX:
        return layers.MaxPooling2D(3, 2, padding="valid", name=name)(x)
    return layers.AveragePooling2D(3, 1, padding="same", name=name)(x)


def _body(image_size: int, weights: str | None) -> keras.Model:
    return network(image_size)


ARCHITECTURES = {"inception_v4": Architecture(_body, plus_minus_one, published=False, load_state=load_state)}
