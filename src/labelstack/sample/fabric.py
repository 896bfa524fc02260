"""Colours, patterns and weaves of fabric."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstack.sample.labels import Outfit

Field = NDArray[np.float32]

_COLOURS = {
    "black": (28, 28, 32),
    "white": (236, 234, 228),
    "grey": (128, 129, 132),
    "red": (186, 32, 42),
    "pink": (232, 140, 172),
    "yellow": (232, 196, 54),
    "green": (48, 122, 66),
    "blue": (44, 82, 168),
    "brown": (112, 74, 46),
}
_SKINS = ((241, 205, 178), (224, 172, 136), (188, 128, 92), (132, 84, 56), (84, 54, 38))


def fabric(outfit: Outfit, grid: tuple[Field, Field], rng: np.random.Generator) -> tuple[Field, NDArray[np.float64]]:
    """Texture float32 [side, side, 3] in 0…255 and the colour of seams."""
    u, v = grid
    side = len(u)
    main = _jittered(outfit.colours[0], rng)
    if len(outfit.colours) > 1:
        second = _jittered(outfit.colours[1], rng)
    else:  # a lighter or darker shade of the same colour, white or black
        second = np.clip(main * 0.5 if main.mean() > 140 else main * 0.45 + 140, 0, 255)
    share = _pattern(outfit.pattern, u, v, rng)
    texture = main.astype(np.float32) + share[:, :, None] * (second - main).astype(np.float32)
    light = 1 + 0.07 * cloud(side, 5, rng)  # folds
    light += np.float32(0.05) * np.sin(v * rng.uniform(2, 6) + u * rng.uniform(4, 14) + rng.uniform(0, 6))
    light, sheen = _material(outfit.material, u, v, light, rng)
    texture = texture * light[:, :, None] + sheen[:, :, None]
    dark = main * 0.55 if main.mean() > 60 else main * 0.5 + 45
    return texture, dark


def _pattern(kind: str, u: Field, v: Field, rng: np.random.Generator) -> Field:
    """How much of the second colour shows at each pixel, 0…1."""
    if kind == "striped":
        across = v if rng.random() < 0.65 else u
        return soft(np.sin(across * np.float32(rng.uniform(22, 60))), rng.uniform(-0.4, 0.4))
    if kind == "checked":
        often = np.float32(rng.uniform(18, 42))
        return (soft(np.sin(u * often), 0.0) + soft(np.sin(v * often), 0.0)) * np.float32(0.5)
    if kind == "dotted":
        step = rng.uniform(0.09, 0.18)
        row = np.floor(v / step)
        x, y = (u / step + 0.5 * (row % 2)) % 1 - 0.5, (v / step) % 1 - 0.5
        return soft(rng.uniform(0.22, 0.34) - np.hypot(x, y), 0.0, 12)
    if kind == "floral":
        step = rng.uniform(0.16, 0.28)
        row = np.floor(v / step)
        x, y = (u / step + 0.37 * row) % 1 - 0.5, (v / step) % 1 - 0.5
        petals = 0.3 + 0.13 * np.cos(5 * np.arctan2(y, x) + row)
        radius = np.hypot(x, y)
        return soft(petals - radius, 0.0, 12) - np.float32(0.6) * soft(0.09 - radius, 0.0, 14)
    return np.zeros_like(u)


def soft(field: Field, level: float, slope: float = 4) -> Field:
    """A step from 0 to 1 where ``field`` passes ``level``, with a ramp 1/``slope`` wide."""
    return np.clip((field - np.float32(level)) * np.float32(slope) + np.float32(0.5), 0, 1).astype(np.float32)


def _material(kind: str, u: Field, v: Field, light: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """Light after the weave, and light that adds to any colour (sheen, fluff, holes)."""
    none = np.zeros_like(u)
    if kind == "denim":  # twill and washed-out places
        twill = np.float32(0.09) * np.sin((u + v) * np.float32(rng.uniform(95, 130)))
        return light + twill + np.float32(0.07) * cloud(len(u), 24, rng), np.maximum(cloud(len(u), 3, rng), 0) * 14
    if kind == "knit":  # columns of small v
        often = np.float32(rng.uniform(45, 75))
        ribs = np.sin(u * often) * 0.6 + np.sin(v * often * 1.4 + 1.6 * np.abs(np.sin(u * often / 2))) * 0.6
        return light + np.float32(0.13) * ribs.astype(np.float32), none
    if kind == "leather":
        gloss = np.maximum(cloud(len(u), 7, rng) - 0.5, 0)
        return light - np.float32(0.06), (gloss * 62).astype(np.float32)
    if kind == "lace":
        often = np.float32(rng.uniform(40, 60))
        holes = soft(np.sin(u * often) * np.sin(v * often), 0.25)
        return light - np.float32(0.4) * holes, holes * 40
    return light, none


def palette_of(outfit: Outfit, dark: NDArray[np.float64], rng: np.random.Generator) -> dict[str, list[float]]:
    """RGB of every paint other than fabric; trim stands out from the garment."""
    skin = np.array(_SKINS[int(rng.integers(len(_SKINS)))]) * rng.uniform(0.9, 1.05)
    trim = np.array([[40, 28, 20], [225, 222, 210], [150, 120, 70], [20, 20, 24]][int(rng.integers(4))])
    if abs(trim.mean() - np.mean(_COLOURS[outfit.colours[0]])) < 50:
        trim = 255 - trim
    paints = {
        "skin": skin,
        "hair": skin * rng.uniform(0.15, 0.6),
        "inside": dark * 0.8,
        "dark": dark,
        "trim": trim,
        "metal": np.array([205, 200, 180]),
        "other": random_colour(rng),
        "shoe": random_colour(rng) * 0.6,
    }
    return {name: np.clip(colour, 0, 255).tolist() for name, colour in paints.items()}


def _jittered(name: str, rng: np.random.Generator) -> NDArray[np.float64]:
    return np.clip(np.array(_COLOURS[name]) * rng.uniform(0.82, 1.14) + rng.normal(0, 9, 3), 4, 250)


def cloud(side: int, cells: int, rng: np.random.Generator) -> Field:
    """Smooth noise of mean about 0 and deviation about 1, ``cells`` bumps across."""
    coarse = rng.standard_normal((cells + 1, cells + 1), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def random_colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """An RGB colour, greyish as most surroundings are."""
    grey = rng.uniform(40, 235)
    return np.clip(grey + rng.normal(0, 28, 3), 0, 255)
