"""Garments that show one attribute of FashionAI 2018: what is drawn, which value that is, which it may be as well."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from labelstack.sample.body import TOP, Piece, Point, area, arm, dot, ellipse, head, legs, line, mirrored, torso
from labelstack.sample.labels import Outfit
from labelstack.support.fashionai_values import VALUES

_HIDDEN = 0.06  # share of photos that do not show the attribute: the first value
_BETWEEN = 0.18  # share of a value's range at each end where its neighbour may be meant too
_WAIST, _HIP = -0.05, 0.3


class Cut(NamedTuple):
    """What is drawn of an attribute.

    Attributes
    ----------
    key : of the attribute
    true : place of the value that is true
    maybe : places of the values that may be
    size : 0 … 1 along ``ALONG``, of whose values each has an equal part; from short to long, from little to much
    """

    key: str
    true: int
    maybe: tuple[int, ...]
    size: float

    def dress(self, outfit: Outfit, worn: bool, rng: np.random.Generator) -> list[Piece]:
        """Pieces from back to front, with or without somebody in them."""
        if self.true == 0:
            return _other(self.key, worn, rng)
        if self.key == "skirt_length_labels":
            return _skirt(0.0 + 1.15 * self.size, worn, rng)
        if self.key == "pant_length_labels":
            return _trousers(0.1 + 1.1 * self.size, worn, rng)
        if self.key == "coat_length_labels":
            return _upper(-0.2 + 1.4 * self.size, worn, rng, front=True)
        if self.key == "sleeve_length_labels":
            return _upper(_HIP, worn, rng, sleeve=self.size)
        value = VALUES[self.key][self.true]
        return _upper(_HIP, worn, rng, front=self.key == "lapel_design_labels") + _DESIGNS[self.key](
            value, self.size, "skin" if worn else "inside"
        )


def letters(key: str, true: int, maybe: Collection[int]) -> str:
    """Places of values as label.csv has them."""
    return "".join("y" if place == true else "m" if place in maybe else "n" for place in range(len(VALUES[key])))


def cut_of(key: str, rng: np.random.Generator) -> Cut:
    """A cut at random; one near the border of two values in ``BETWEEN`` may be the neighbour as well."""
    along = ALONG[key]
    size = float(rng.uniform())
    if rng.random() < _HIDDEN:
        return Cut(key, 0, (), size)
    part = min(int(size * len(along)), len(along) - 1)
    within = size * len(along) - part
    near = part - 1 if within < _BETWEEN else part + 1 if within > 1 - _BETWEEN else part
    may = near != part and 0 <= near < len(along) and {along[part], along[near]} in BETWEEN[key]
    place = VALUES[key].index
    return Cut(key, place(along[part]), (place(along[near]),) if may else (), size)


# Values from short to long, which is not always the published order, or from little to much of it.
ALONG: dict[str, tuple[str, ...]] = {key: values[1:] for key, values in VALUES.items()} | {
    "coat_length_labels": ("high waist", "regular", "micro", "long", "knee", "midi", "ankle and floor"),
    "neck_design_labels": ("low turtle", "turtle", "ruffle semi-high", "draped"),
    "lapel_design_labels": ("collarless", "notched", "shawl", "plus size shawl"),
    "neckline_design_labels": (
        "strapless",
        "straight",
        "square",
        "round",
        "v",
        "deep v",
        "sweetheart",
        "off shoulder",
        "one shoulder",
    ),
}
# Neighbours that pass into each other: all lengths, and designs that differ in how much there is.
BETWEEN: dict[str, list[set[str]]] = {
    key: [set(pair) for pair in pairwise(along)] if "_length_" in key else [] for key, along in ALONG.items()
} | {
    "collar_design_labels": [{"peter pan", "puritan"}],
    "lapel_design_labels": [{"shawl", "plus size shawl"}],
    "neck_design_labels": [{"low turtle", "turtle"}],
    "neckline_design_labels": [{"v", "deep v"}],
}


def _other(key: str, worn: bool, rng: np.random.Generator) -> list[Piece]:
    """A garment that has no such attribute."""
    if key == "skirt_length_labels":
        return _trousers(rng.uniform(0.3, 1.2), worn, rng)
    return _upper(_HIP, worn, rng) if key == "pant_length_labels" else _skirt(rng.uniform(0.2, 1.1), worn, rng)


def _skirt(bottom: float, worn: bool, rng: np.random.Generator) -> list[Piece]:
    waist, top = rng.uniform(0.22, 0.28), -0.2
    hem = waist * rng.uniform(1.25, 2.2)
    pieces = legs(rng) + torso(waist, top, rng) if worn else []
    pieces.append(area("fabric", mirrored([(waist, top), ((waist + hem) / 2, top + 0.15), (hem, bottom)])))
    return [*pieces, line("dark", [(-waist, top + 0.05), (waist, top + 0.05)], 0.016)]


def _trousers(bottom: float, worn: bool, rng: np.random.Generator) -> list[Piece]:
    waist, top, crotch = rng.uniform(0.23, 0.28), -0.2, 0.08
    leg = rng.uniform(0.08, 0.14)
    pieces = legs(rng) + torso(waist, top, rng) if worn else []
    for side in (-1, 1):
        stand = side * (0.15 + 0.08 * (bottom - crotch))
        right, left = (stand + side * leg, bottom), (stand - side * leg, bottom)
        pieces.append(area("fabric", [(0.0, top), (side * waist, top), right, left, (0.0, crotch)]))
    return [*pieces, line("dark", [(0.0, top), (0.0, crotch)], 0.014)]


def _upper(
    bottom: float, worn: bool, rng: np.random.Generator, *, front: bool = False, sleeve: float | None = None
) -> list[Piece]:
    """A top or coat down to ``bottom``, with long sleeves, or a share ``sleeve`` of the arm and a little more."""
    chest = 0.35 * rng.uniform(0.92, 1.08)
    pieces = head(rng) + legs(rng) if worn else []
    for side in (-1, 1):
        joint, elbow, hand = arm(side, 0.4, rng)
        if worn:
            pieces += [line("skin", [joint, elbow, hand], 0.11), dot("skin", *hand, 0.065)]
        pieces += _sleeve(0.9 if sleeve is None else 1.1 * sleeve, joint, elbow, hand)
    body = [(0.12, TOP), (0.4, TOP + 0.1), (chest, TOP + 0.42), (0.95 * chest, min(_WAIST, bottom)), (chest, bottom)]
    pieces.append(area("fabric", mirrored(body)))
    return [*pieces, line("dark", [(0.02, TOP + 0.12), (0.02, bottom)], 0.014)] if front else pieces


def _sleeve(share: float, joint: Point, elbow: Point, hand: Point) -> list[Piece]:
    """Along a share of the arm, whose elbow is at a half; nothing where there is too little to see."""
    if share < 1.1 / len(ALONG["sleeve_length_labels"]):
        return []
    first, second = min(share, 0.5) * 2, max(share - 0.5, 0) * 2
    ends = [joint, (joint[0] + first * (elbow[0] - joint[0]), joint[1] + first * (elbow[1] - joint[1]))]
    if second:
        ends.append((elbow[0] + second * (hand[0] - elbow[0]), elbow[1] + second * (hand[1] - elbow[1])))
    return [line("fabric", ends, 0.2)]


def _neckline(value: str, size: float, bare: str) -> list[Piece]:
    shapes: dict[str, list[Point]] = {
        "strapless": [(-0.45, TOP - 0.02), (0.45, TOP - 0.02), (0.42, TOP + 0.3), (-0.42, TOP + 0.3)],
        "straight": [(-0.3, TOP - 0.02), (0.3, TOP - 0.02), (0.26, TOP + 0.14), (-0.26, TOP + 0.14)],
        "square": [(-0.17, TOP - 0.02), (0.17, TOP - 0.02), (0.17, TOP + 0.22), (-0.17, TOP + 0.22)],
        "round": ellipse(0, TOP - 0.01, 0.17, 0.2, 0, 180),
        "sweetheart": [
            *ellipse(0.11, TOP + 0.16, 0.11, 0.09, 0, 180),
            *ellipse(-0.11, TOP + 0.16, 0.11, 0.09, 0, 180),
            (-0.24, TOP),
            (0.24, TOP),
        ],
        "off shoulder": [
            (-0.5, TOP - 0.02),
            (0.5, TOP - 0.02),
            (0.45, TOP + 0.16),
            (0, TOP + 0.2),
            (-0.45, TOP + 0.16),
        ],
        "one shoulder": [(-0.12, TOP - 0.02), (0.5, TOP - 0.02), (0.42, TOP + 0.34)],
    }
    deep = 0.15 + 1.6 * max(size - 4 / 9, 0)  # v and deep v are the fifth and sixth of nine
    rim = shapes.get(value, [(-0.14, TOP - 0.01), (0.0, TOP + deep), (0.14, TOP - 0.01)])
    return [area(bare, rim), line("dark", [*rim, rim[0]], 0.02)]


def _collar(value: str, size: float, bare: str) -> list[Piece]:
    pieces = [area(bare, ellipse(0, TOP - 0.01, 0.12, 0.1, 0, 180))]
    if value == "rib":
        rims = [ellipse(0, TOP - 0.01, 0.12 + 0.02 * i, 0.1 + 0.02 * i, 0, 180) for i in range(4)]
        return pieces + [line("trim" if i % 2 else "dark", rim, 0.018) for i, rim in enumerate(rims)]
    for side in (-1, 1):
        if value == "shirt":
            wing = [(side * 0.11, TOP - 0.05), (side * 0.24, TOP + 0.12), (side * 0.1, TOP + 0.22), (0.0, TOP + 0.1)]
        else:  # the second and third of four: ever larger and rounder
            wide = 0.08 + 0.3 * max(size - 0.25, 0)
            wing = ellipse(side * (0.06 + wide), TOP + 0.08, wide, 0.8 * wide)
        pieces += [area("trim", wing), line("dark", [*wing, wing[0]], 0.012)]
    return pieces


def _lapel(value: str, size: float, bare: str) -> list[Piece]:
    pieces = [area("other" if bare == "skin" else "inside", [(-0.13, TOP), (0.0, TOP + 0.45), (0.13, TOP)])]
    if value == "collarless":
        return pieces
    wide = 0.12 + 0.4 * max(size - 0.5, 0)  # shawl and plus size shawl are the last two of four
    for side in (-1, 1):
        lapel = [(side * 0.12, TOP - 0.03), (side * (0.1 + wide), TOP + 0.2), (0.0, TOP + 0.45)]
        if value == "notched":
            notch = [(side * 0.25, TOP + 0.12), (side * 0.15, TOP + 0.17), (side * 0.27, TOP + 0.2)]
            lapel = [lapel[0], *notch, lapel[-1]]
        pieces += [area("trim", lapel), line("dark", [*lapel, lapel[0]], 0.014)]
    return pieces


def _neck(value: str, size: float, bare: str) -> list[Piece]:
    if value == "draped":
        folds = [ellipse(0, TOP, 0.2, 0.12 + 0.07 * i, 0, 180) for i in range(4)]
        return [area("fabric", folds[-1], 0.9), *(line("dark", fold, 0.02) for fold in folds)]
    high = 0.06 + 0.3 * min(size, 0.5)  # low turtle and turtle are the first two of four
    tube = area("fabric", [(-0.13, TOP - high), (0.13, TOP - high), (0.14, TOP + 0.03), (-0.14, TOP + 0.03)], 0.85)
    if value != "ruffle semi-high":
        return [tube, line("dark", [(-0.13, TOP - high), (0.13, TOP - high)], 0.02)]
    waves = [(x, TOP - high + 0.05 * (i % 2)) for i, x in enumerate(np.linspace(-0.2, 0.2, 9).tolist())]
    return [tube, line("trim", waves, 0.045)]


_DESIGNS: dict[str, Callable[[str, float, str], list[Piece]]] = {
    "collar_design_labels": _collar,
    "lapel_design_labels": _lapel,
    "neck_design_labels": _neck,
    "neckline_design_labels": _neckline,
}
