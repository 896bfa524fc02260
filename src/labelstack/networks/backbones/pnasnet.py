"""PNASNet-5 (Liu et al. 2018), layers and names as in timm's ``pnasnet5large``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers
from numpy.typing import NDArray

from labelstack.networks.backbones.architecture import Architecture, plus_minus_one
from labelstack.networks.backbones.pretrained import put_by_name
from labelstack.networks.backbones.torch_layers import batch_norm, convolution, depthwise, rectified

_EPSILON = 1e-3


def network(
    image_size: int, stem: int = 96, filters: int = 54, repeats: tuple[int, int, int] = (4, 3, 3)
) -> keras.Model:
    """Preprocessed image [b, S, S, 3] → feature map [b, h, w, 80 · filters], h = w = S/32 rounded up or down.

    Parameters
    ----------
    image_size : at least 32
    stem : filters of the first convolution
    filters : of the first cell's branches; a cell gives five times its branches' filters
    repeats : cells of each of the three resolutions that follow the stem, without those that halve
    """
    image = keras.Input((image_size, image_size, 3), name="preprocessed")
    first = convolution(image, stem, 3, "conv_0.conv", stride=2, padding="valid")
    first = batch_norm(first, "conv_0.bn", epsilon=_EPSILON)
    left = _stem_cell(first, filters, "cell_stem_0")
    right = _cell(first, left, 2 * filters, "cell_stem_1", halves=True, left_is_larger=True)
    number = 0
    for resolution, repeat in enumerate(repeats):
        halves = [resolution > 0] + [False] * (repeat if resolution else repeat - 1)
        for place, halve in enumerate(halves):
            # Two before a cell, the side was still twice that of one before it.
            larger = place == (1 if resolution else 0)
            width = filters * 4 * 2**resolution
            cell = _cell(left, right, width, f"cell_{number}", halves=halve, left_is_larger=larger)
            left, right = right, cell
            number += 1
    return keras.Model(image, rectified(right, "act"), name="pnasnet")


def load_state(body: keras.Model, tensors: Mapping[str, NDArray[Any]], source: str) -> None:
    """Put a state dict of timm's ``pnasnet5large`` into a ``network``; see ``pretrained.put_by_name``.

    The classifier, which is not used, may have any number of classes.
    """
    put_by_name(body, tensors, "last_linear", source)


def _stem_cell(x: Any, filters: int, name: str) -> Any:
    pooled = _max_pool(x, 2, f"{name}.comb_iter_0_right.max_pool")
    pooled = convolution(pooled, filters, 1, f"{name}.comb_iter_0_right.conv")
    pooled = batch_norm(pooled, f"{name}.comb_iter_0_right.bn", epsilon=_EPSILON)
    return _combined(x, _unit(x, filters, f"{name}.conv_1x1"), pooled, filters, 2, name)


def _cell(left: Any, right: Any, filters: int, name: str, *, halves: bool, left_is_larger: bool) -> Any:
    """A cell of the outputs of the two before it; ``left`` comes from the earlier one."""
    fit = _factorized if left_is_larger else _unit
    left, right = fit(left, filters, f"{name}.conv_prev_1x1"), _unit(right, filters, f"{name}.conv_1x1")
    stride = 2 if halves else 1
    return _combined(left, right, _max_pool(left, stride, f"{name}.comb_iter_0_right"), filters, stride, name)


def _combined(left: Any, right: Any, pooled_left: Any, filters: int, stride: int, name: str) -> Any:
    """Five sums of two branches each, side by side."""

    def separable(x: Any, kernel: int, part: str, stride: int = stride) -> Any:
        return _separable(x, filters, kernel, stride, f"{name}.comb_iter_{part}")

    def pooled(part: str) -> Any:
        return _max_pool(right, stride, f"{name}.comb_iter_{part}")

    def add(number: int, one: Any, other: Any) -> Any:
        return layers.Add(name=f"{name}.comb_iter_{number}")([one, other])

    third = add(2, separable(right, 5, "2_left"), separable(right, 3, "2_right"))
    last = right if stride == 1 else _unit(right, filters, f"{name}.comb_iter_4_right", stride)
    sums = [
        add(0, separable(left, 5, "0_left"), pooled_left),
        add(1, separable(right, 7, "1_left"), pooled("1_right")),
        third,
        add(3, separable(third, 3, "3_left", stride=1), pooled("3_right")),
        add(4, separable(left, 3, "4_left"), last),
    ]
    return layers.Concatenate(name=name)(sums)


def _separable(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    """Twice ReLU, depthwise, 1 × 1, batch normalization; the first strides."""
    for number in (1, 2):
        x = rectified(x, f"{name}.act_{number}")
        x = depthwise(x, kernel, f"{name}.separable_{number}.depthwise_conv2d", stride=stride if number == 1 else 1)
        x = convolution(x, filters, 1, f"{name}.separable_{number}.pointwise_conv2d")
        x = batch_norm(x, f"{name}.bn_sep_{number}", epsilon=_EPSILON)
    return x


def _unit(x: Any, filters: int, name: str, stride: int = 1) -> Any:
    x = convolution(rectified(x, f"{name}.act"), filters, 1, f"{name}.conv", stride=stride)
    return batch_norm(x, f"{name}.bn", epsilon=_EPSILON)


def _factorized(x: Any, filters: int, name: str) -> Any:
    """Every second pixel, and every second one of the map moved by one to the upper left; half the filters each."""
    x = rectified(x, f"{name}.act")
    moved = layers.Cropping2D(((1, 0), (1, 0)), name=f"{name}.path_2.crop")(x)
    moved = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}.path_2.pad")(moved)
    paths = []
    for path, start in (("path_1", x), ("path_2", moved)):
        taken = layers.AveragePooling2D(1, 2, name=f"{name}.{path}.avgpool")(start)
        paths.append(convolution(taken, filters // 2, 1, f"{name}.{path}.conv"))
    return batch_norm(layers.Concatenate(name=f"{name}.paths")(paths), f"{name}.final_path_bn", epsilon=_EPSILON)


def _max_pool(x: Any, stride: int, name: str) -> Any:
    return layers.MaxPooling2D(3, stride, padding="same", name=name)(x)


def _body(image_size: int, weights: str | None) -> keras.Model:
    return network(image_size)


ARCHITECTURES = {"pnasnet5_large": Architecture(_body, plus_minus_one, published=False, load_state=load_state)}
