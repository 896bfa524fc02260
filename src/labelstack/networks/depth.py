"""Layers of a backbone by depth: groups that learn together, and its feature maps by stride."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

# Of other sizes than the maps between which they stand.
_PADDING = (layers.ZeroPadding2D, layers.Cropping2D)
_ROUNDED = 0.15  # of a halving's logarithm, lost to rounding sizes


def flat_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Layers in the order in which an image passes them; in place of a model within a model its layers."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer


def layer_groups(backbone: keras.Model) -> list[list[keras.layers.Layer]]:
    """Layers with weights, in groups of equal depth: a group ends where maps become smaller; the first are the stem's.

    Weights before the first halving and up to the second are one group. Groups without weights are left out.

    Parameters
    ----------
    backbone : keras.Model
        From ``build_backbone``.

    Returns
    -------
    list of lists of layers, in order; at least one where there are weights
    """
    found: dict[int, list[keras.layers.Layer]] = {}
    for layer, level, _ in _levels(backbone):
        if layer.weights:
            found.setdefault(max(level, 1), []).append(layer)
    return [found[level] for level in sorted(found)]


def pyramid(backbone: keras.Model) -> dict[int, str]:
    """By stride (2, 4, 8, …) the name of the layer of ``body`` with the last map of that stride.

    It is the last one that all later layers depend on, where there is such a one: the end of a block, and not a branch
    within it.
    """
    placed = _levels(backbone)
    narrow = _narrow(placed)
    found: dict[int, str] = {}
    best: dict[int, tuple[bool, int]] = {}
    size = 0
    for place, (layer, level, size) in enumerate(placed):
        if level < 1 or _side(layer) != size:
            continue
        rank = (narrow[place], place)
        if rank >= best.get(level, (False, -1)):
            best[level], found[2**level] = rank, layer.name
    return dict(sorted(found.items()))


def _levels(backbone: keras.Model) -> list[tuple[keras.layers.Layer, int, int]]:
    """Layers of ``body`` in order, how often the map has been halved, and its side.

    What is smaller for a while, as in squeeze and excitation, counts as the map that it comes back to.
    """
    body = backbone.get_layer("body") if any(layer.name == "body" for layer in backbone.layers) else backbone
    flat = [layer for layer in flat_layers(body) if not isinstance(layer, layers.InputLayer)]
    sides = [_side(layer) for layer in flat]
    largest_ahead, ahead = [], 0
    for side in reversed(sides):
        ahead = max(ahead, side)
        largest_ahead.append(ahead)
    placed, level, now = [], 0, int(body.input.shape[1])
    for layer, side in zip(flat, reversed(largest_ahead), strict=True):
        if 0 < side < now and side <= -(-now // 2):
            level += max(1, int(math.log2(now / side) + _ROUNDED))
        now = min(now, side) or now
        placed.append((layer, level, now))
    return placed


def _side(layer: keras.layers.Layer) -> int:
    """Side of a layer's map; 0 where it gives none."""
    shape: tuple[int | None, ...] = getattr(layer.output, "shape", ())
    return int(shape[1]) if len(shape) == 4 and shape[1] and not isinstance(layer, _PADDING) else 0


def _narrow(placed: list[tuple[keras.layers.Layer, int, int]]) -> list[bool]:
    """Of each layer, whether no connection leads around it, from a layer before to one behind."""
    place = {id(layer.output): at for at, (layer, _, _) in enumerate(placed) if not isinstance(layer.output, list)}
    reach = list(range(len(placed)))
    for at, (layer, _, _) in enumerate(placed):
        for source in _inputs(layer):
            if id(source) in place:
                reach[place[id(source)]] = max(reach[place[id(source)]], at)
    narrow, furthest = [], 0
    for at, far in enumerate(reach):
        narrow.append(furthest <= at)
        furthest = max(furthest, far)
    return narrow


def _inputs(layer: keras.layers.Layer) -> list[Any]:
    return layer.input if isinstance(layer.input, list) else [layer.input]
