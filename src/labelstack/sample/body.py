"""Strokes of the brush, and the body that wears the garments.

Coordinates: x to the right and y down, the frame about -1…1 each way, a torso about 0.8 wide.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
TOP = -0.72  # y of the shoulders


class Piece(NamedTuple):
    """One stroke of the brush.

    ``form`` is area, line or dot; ``size`` the width of a line or the radius of a dot; ``paint`` is fabric (with its
    texture), dark (a darker fabric colour), inside, skin, hair, other, trim, metal or shoe; ``tone`` scales fabric;
    ``part`` names what the stroke is a part of besides the garment, such as ``left sleeve``.
    """

    form: str
    paint: str
    points: NDArray[np.float64]
    size: float = 0.0
    tone: float = 1.0
    part: str = ""


def area(paint: str, points: list[Point], tone: float = 1.0, part: str = "") -> Piece:
    """A filled outline."""
    return Piece("area", paint, np.array(points), tone=tone, part=part)


def line(paint: str, points: list[Point], size: float, part: str = "") -> Piece:
    """An open line of width ``size``."""
    return Piece("line", paint, np.array(points), size, part=part)


def dot(paint: str, x: float, y: float, size: float, part: str = "") -> Piece:
    """A disc of radius ``size``."""
    return Piece("dot", paint, np.array([(x, y)]), size, part=part)


def sided(side: float, part: str) -> str:
    """The part on one side: left for negative x."""
    return f"{'left' if side < 0 else 'right'} {part}"


def mirrored(right: list[Point]) -> list[Point]:
    """A closed outline from its right half, listed from top to bottom."""
    return right + [(-x, y) for x, y in reversed(right)]


def ellipse(x: float, y: float, width: float, height: float, first: float = 0, last: float = 360) -> list[Point]:
    """17 points of an ellipse with these half-axes, from one angle to another (degrees, clockwise from the right)."""
    turns = np.radians(np.linspace(first, last, 17))
    return [(x + width * math.cos(t), y + height * math.sin(t)) for t in turns]


def arm(side: int, shoulder: float, rng: np.random.Generator) -> tuple[Point, ...]:
    """Shoulder joint, elbow and hand of one arm."""
    angle = rng.uniform(0.08, 0.75)
    bend = angle + rng.uniform(-0.5, 0.3)
    joint = (side * (shoulder - 0.05), TOP + 0.18)
    elbow = (joint[0] + side * 0.42 * math.sin(angle), joint[1] + 0.42 * math.cos(angle))
    hand = (elbow[0] + side * 0.42 * math.sin(bend), elbow[1] + 0.42 * math.cos(bend))
    return joint, elbow, hand


def head(rng: np.random.Generator) -> list[Piece]:
    """Hair, neck and face."""
    pieces = [area("hair", ellipse(0, TOP - 0.3, 0.17, rng.uniform(0.19, 0.34)))]
    pieces += [line("skin", [(0, TOP - 0.2), (0, TOP + 0.08)], 0.17)]
    return [*pieces, area("skin", ellipse(0, TOP - 0.25, 0.135, 0.18))]


def legs(rng: np.random.Generator) -> list[Piece]:
    """Bare legs and shoes."""
    pieces = []
    for side in (-1, 1):
        foot = (side * rng.uniform(0.1, 0.22), 1.3)
        pieces += [line("skin", [(side * 0.14, 0.2), foot], 0.14), dot("shoe", *foot, 0.085, sided(side, "shoe"))]
    return pieces


def torso(waist: float, y: float, rng: np.random.Generator) -> list[Piece]:
    """Somebody's plain top above a lower garment; it carries no label."""
    pieces = head(rng)
    for side in (-1, 1):
        joint, elbow, hand = arm(side, 0.38, rng)
        pieces += [line("skin", [joint, elbow, hand], 0.1), line("other", [joint, elbow], 0.15)]
    return [
        *pieces,
        area("other", mirrored([(0.12, TOP), (0.38, TOP + 0.1), (0.33, TOP + 0.4), (waist + 0.02, y + 0.05)])),
    ]
