"""Shapes of garments, as pieces to paint from back to front."""

from __future__ import annotations

import numpy as np

from labelstack.sample.body import TOP, Piece, Point, area, arm, dot, ellipse, head, legs, line, mirrored, sided, torso
from labelstack.sample.labels import Outfit

_WAIST = -0.05
_BOTTOM = {"t-shirt": 0.3, "shirt": 0.36, "sweater": 0.3, "hoodie": 0.34, "blazer": 0.42}
_LOOSE = {"t-shirt": 1.0, "shirt": 1.0, "sweater": 1.08, "hoodie": 1.16, "coat": 1.15, "blazer": 1.06, "dress": 0.88}


def dress_up(outfit: Outfit, worn: bool, rng: np.random.Generator) -> list[Piece]:
    """Pieces from back to front of a garment, with or without somebody in it."""
    if outfit.garment in {"trousers", "shorts"}:
        return _trousers(outfit, worn, rng)
    if outfit.garment == "skirt":
        return _skirt(outfit, worn, rng)
    return _upper(outfit, worn, rng)


def _upper(outfit: Outfit, worn: bool, rng: np.random.Generator) -> list[Piece]:
    loose = _LOOSE[outfit.garment] * rng.uniform(0.92, 1.1)
    reach = {"short": 0.32, "knee": 0.68, "long": 1.1}
    bottom = _BOTTOM.get(outfit.garment, reach.get(outfit.length, 0.3)) + rng.uniform(-0.06, 0.06)
    shoulder, chest = 0.4 * loose, 0.35 * loose
    waist = chest * (rng.uniform(0.78, 0.9) if outfit.garment in {"dress", "blazer"} else rng.uniform(0.94, 1.02))
    hem = chest * (rng.uniform(1.05, 1.95) if outfit.garment == "dress" else rng.uniform(0.98, 1.14))
    pieces: list[Piece] = []
    if outfit.neckline == "hood":
        pieces.append(area("fabric", ellipse(0, TOP - 0.02, 0.27 * loose, rng.uniform(0.2, 0.32)), 0.7, "hood"))
    if worn:
        pieces += head(rng)
        if outfit.garment in {"dress", "coat"}:
            pieces += legs(rng)
    arms = [arm(side, shoulder, rng) for side in (-1, 1)]
    for joint, elbow, hand in arms:
        if worn:
            pieces += [line("skin", [joint, elbow, hand], 0.11), dot("skin", *hand, 0.065)]
        pieces += _sleeve(outfit.sleeve, joint, elbow, hand, loose, outfit.garment, rng)
    if outfit.sleeve == "sleeveless":
        right = [(0.12, TOP), (shoulder * 0.72, TOP + 0.06), (chest * 0.76, TOP + 0.22), (chest, TOP + 0.42)]
    else:
        right = [(0.12, TOP), (shoulder, TOP + 0.1), (chest, TOP + 0.42)]
    pieces.append(area("fabric", mirrored([*right, (waist, _WAIST), (hem, bottom)])))
    if outfit.sleeve != "sleeveless":
        for side in (-1, 1):
            pieces.append(line("dark", [(side * shoulder, TOP + 0.12), (side * chest, TOP + 0.42)], 0.012))
    if outfit.garment in {"sweater", "hoodie"}:
        pieces.append(line("dark", [(-hem, bottom - 0.06), (hem, bottom - 0.06)], 0.015))
    if outfit.garment == "dress":
        pieces.append(line("dark", [(-waist, _WAIST), (waist, _WAIST)], 0.012))
        pieces += _pleats(waist, hem, _WAIST, bottom, rng)
    neck, opening = _neckline(outfit, worn, bottom, rng)
    return pieces + neck + _upper_details(outfit, opening, waist, chest, bottom, rng)


def _sleeve(
    kind: str,
    joint: Point,
    elbow: Point,
    hand: Point,
    loose: float,
    garment: str,
    rng: np.random.Generator,
) -> list[Piece]:
    if kind not in {"short", "long"}:
        return []
    wide, narrow = 0.13 * loose, 0.085 * loose * rng.uniform(0.85, 1.35)
    axis = [joint, elbow, hand]
    if kind == "short":
        share = rng.uniform(0.5, 0.8)
        axis = [joint, (joint[0] + share * (elbow[0] - joint[0]), joint[1] + share * (elbow[1] - joint[1]))]
    widths = np.linspace(wide, narrow if kind == "long" else wide * 0.9, len(axis))
    path = np.array(axis)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) * widths[:, None]
    outline = np.concatenate([path + normal, (path - normal)[::-1]])
    cuff = np.stack([path[-1] + normal[-1] - 0.04 * along[-1], path[-1] - normal[-1] - 0.04 * along[-1]])
    pieces = [
        Piece("dot", "fabric", path[:1], wide * 1.02, 0.93, sided(joint[0], "sleeve")),
        Piece("area", "fabric", outline, tone=0.93, part=sided(joint[0], "sleeve")),
    ]
    if garment in {"shirt", "sweater", "hoodie"} or rng.random() < 0.5:
        pieces.append(Piece("line", "dark", cuff, 0.014))
    return pieces


def _neckline(outfit: Outfit, worn: bool, bottom: float, rng: np.random.Generator) -> tuple[list[Piece], float]:
    """Pieces around the neck and the y where the closed front begins."""
    inside = "skin" if worn else "inside"
    if outfit.neckline == "hood":
        return _hood(outfit, inside, bottom, rng), TOP + 0.14
    if outfit.neckline == "collar":
        if outfit.garment in {"blazer", "coat"}:
            reach = (0.42, 0.62) if outfit.garment == "blazer" else (0.25, 0.45)
            tip = TOP + rng.uniform(*reach)
            return _lapels("other" if worn else "inside", tip, bottom), tip
        return _shirt_collar(inside, None if outfit.garment == "dress" else bottom), TOP + 0.14
    if outfit.neckline == "v":
        deep = rng.uniform(0.2, 0.36)
        rim = [(-0.125, TOP - 0.01), (0.0, TOP + deep), (0.125, TOP - 0.01)]
    else:
        deep = rng.uniform(0.07, 0.15)
        rim = ellipse(0, TOP - 0.01, 0.13, deep, 0, 180)
    return [area(inside, rim), line("dark", rim, 0.022)], TOP + deep


def _hood(outfit: Outfit, inside: str, bottom: float, rng: np.random.Generator) -> list[Piece]:
    rim = ellipse(0, TOP, 0.15, 0.12, 0, 180)
    pieces = [area(inside, rim), line("dark", rim, 0.05)]
    for s in (-1, 1):
        pieces.append(line("trim", [(s * 0.06, TOP + 0.1), (s * 0.07, TOP + rng.uniform(0.25, 0.4))], 0.016))
    if outfit.garment == "coat" or rng.random() < 0.4:
        pieces.append(line("dark", [(0, TOP + 0.12), (0, bottom)], 0.016))
    return pieces


def _lapels(under: str, tip: float, bottom: float) -> list[Piece]:
    pieces = [area(under, [(-0.14, TOP - 0.01), (0.0, tip), (0.14, TOP - 0.01)])]
    for s in (-1, 1):
        upper = [(s * 0.12, TOP - 0.03), (s * 0.25, TOP + 0.16), (s * 0.19, TOP + 0.2)]
        lapel = [*upper, (0.0, tip), (s * 0.1, TOP + 0.1)]
        pieces += [area("fabric", lapel, 0.84, "lapel"), line("dark", [*lapel, lapel[0]], 0.01)]
    return [*pieces, line("dark", [(0, tip), (0.02, bottom)], 0.014)]


def _shirt_collar(inside: str, placket: float | None) -> list[Piece]:
    """A turned-down collar; ``placket`` is the y to which the front opens, if it does."""
    pieces = [area(inside, [(-0.1, TOP - 0.01), (0.0, TOP + 0.12), (0.1, TOP - 0.01)])]
    for s in (-1, 1):
        wing = [(s * 0.11, TOP - 0.05), (s * 0.19, TOP + 0.1), (s * 0.1, TOP + 0.17), (0.0, TOP + 0.1)]
        pieces += [area("fabric", wing, 1.08, "collar"), line("dark", [*wing, wing[0]], 0.01)]
    return pieces if placket is None else [*pieces, line("dark", [(0.03, TOP + 0.12), (0.03, placket)], 0.01)]


def _upper_details(
    outfit: Outfit, opening: float, waist: float, chest: float, bottom: float, rng: np.random.Generator
) -> list[Piece]:
    pieces = []
    if "buttons" in outfit.details:
        rows = (-0.09, 0.09) if outfit.garment == "coat" and rng.random() < 0.5 else (0.0,)
        number = {"blazer": int(rng.integers(2, 4)), "coat": 4}.get(outfit.garment, 6)
        last = {"blazer": 0.15, "coat": min(bottom - 0.1, 0.4)}.get(outfit.garment, bottom - 0.05)
        radius = 0.03 if outfit.garment in {"blazer", "coat"} else 0.022
        pieces += [dot("trim", x, y, radius) for x in rows for y in np.linspace(opening + 0.04, last, number)]
    if "pocket" in outfit.details:
        if outfit.garment == "hoodie":
            pouch = [(-0.12, 0.0), (0.12, 0.0), (0.22, 0.24), (-0.22, 0.24), (-0.12, 0.0)]
            pieces += [area("fabric", pouch, 0.95, "pocket"), line("dark", pouch, 0.014)]
        elif outfit.garment in {"blazer", "coat"}:
            for s in (-1, 1):
                flap = [
                    (s * 0.12, 0.1),
                    (s * (chest - 0.06), 0.08),
                    (s * (chest - 0.06), 0.16),
                    (s * 0.12, 0.18),
                    (s * 0.12, 0.1),
                ]
                pieces += [area("fabric", flap, 0.86, sided(s, "pocket")), line("dark", flap, 0.012)]
        else:
            patch = [(0.09, -0.4), (0.25, -0.4), (0.25, -0.25), (0.17, -0.2), (0.09, -0.25), (0.09, -0.4)]
            pieces += [area("fabric", patch, 1.04, "pocket"), line("dark", patch, 0.012)]
    if "belt" in outfit.details:
        pieces += _belt(waist + 0.02, _WAIST)
    return pieces


def _belt(half: float, y: float) -> list[Piece]:
    return [line("trim", [(-half, y), (half, y)], 0.065, "belt"), dot("metal", 0.0, y, 0.042, "belt")]


def _pleats(top: float, hem: float, first: float, last: float, rng: np.random.Generator) -> list[Piece]:
    number = int(rng.integers(0, 6))
    shares = np.linspace(-0.8, 0.8, number).tolist()
    return [line("dark", [(s * top, first + 0.1), (s * hem, last)], 0.008) for s in shares]


def _skirt(outfit: Outfit, worn: bool, rng: np.random.Generator) -> list[Piece]:
    waist, top = rng.uniform(0.22, 0.28), -0.2
    bottom = {"short": 0.25, "knee": 0.58, "long": 1.05}[outfit.length] + rng.uniform(-0.06, 0.06)
    hem = waist * rng.uniform(1.25, 2.5)
    pieces = legs(rng) + torso(waist, top, rng) if worn else []
    hips = waist + (hem - waist) * 0.45
    pieces.append(area("fabric", mirrored([(waist, top), (hips, top + 0.2), (hem, bottom)])))
    pieces += _pleats(waist, hem, top, bottom, rng)
    pieces.append(line("dark", [(-waist, top + 0.05), (waist, top + 0.05)], 0.016))
    if "buttons" in outfit.details:
        pieces += [dot("trim", 0.0, y, 0.022) for y in np.linspace(top + 0.1, bottom - 0.08, 5)]
    if "pocket" in outfit.details:
        pieces += _hip_pockets(waist, top)
    if "belt" in outfit.details:
        pieces += _belt(waist + 0.01, top + 0.02)
    return pieces


def _hip_pockets(waist: float, top: float) -> list[Piece]:
    return [line("dark", [(s * waist * 0.55, top + 0.08), (s * (waist + 0.03), top + 0.24)], 0.018) for s in (-1, 1)]


def _trousers(outfit: Outfit, worn: bool, rng: np.random.Generator) -> list[Piece]:
    waist, top, crotch = rng.uniform(0.23, 0.28), -0.2, 0.16
    long_reach, short_reach = {"long": 1.2, "knee": 0.75}, {"short": 0.4, "knee": 0.62}
    reach = long_reach if outfit.garment == "trousers" else short_reach
    bottom = reach[outfit.length] + rng.uniform(-0.05, 0.05)
    hip, leg = waist + rng.uniform(0.03, 0.07), rng.uniform(0.08, 0.17)
    pieces = legs(rng) + torso(waist, top, rng) if worn else []
    for side in (-1, 1):
        stand = side * (0.15 + rng.uniform(0.0, 0.14) * (bottom - crotch))
        outline = [
            (0.0, top),
            (side * waist, top),
            (side * hip, top + 0.2),
            (stand + side * leg, bottom),
            (stand - side * leg, bottom),
            (0.0, crotch),
        ]
        pieces += [area("fabric", outline, 1.0 if side < 0 else 0.95)]
        pieces.append(line("dark", [(side * 0.17, crotch), (stand, bottom)], 0.008))
        if rng.random() < 0.4:
            pieces.append(
                line("dark", [(stand - side * leg, bottom - 0.05), (stand + side * leg, bottom - 0.05)], 0.012)
            )
    pieces += [
        line("dark", [(0, top), (0, crotch)], 0.014),
        line("dark", [(-waist, top + 0.06), (waist, top + 0.06)], 0.014),
    ]
    if "pocket" in outfit.details:
        pieces += _hip_pockets(waist, top)
    if "belt" in outfit.details:
        pieces += _belt(waist + 0.01, top + 0.03)
    return pieces
