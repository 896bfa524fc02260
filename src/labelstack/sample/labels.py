"""Which labels go together: garments, what they usually come with, and how annotators err."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

GROUPS: dict[str, tuple[str, ...]] = {
    "garment": (
        "t-shirt",
        "shirt",
        "sweater",
        "hoodie",
        "coat",
        "blazer",
        "dress",
        "skirt",
        "trousers",
        "shorts",
    ),
    "sleeve": ("sleeveless", "short", "long"),
    "neckline": ("round", "v", "collar", "hood"),
    "length": ("short", "knee", "long"),
    "colour": ("black", "white", "grey", "red", "pink", "yellow", "green", "blue", "brown"),
    "pattern": ("striped", "checked", "dotted", "floral"),
    "material": ("denim", "knit", "leather", "lace"),
    "season": ("summer", "winter"),
    "style": ("formal", "sporty"),
    "detail": ("belt", "buttons", "pocket"),
}
NAMES: tuple[str, ...] = tuple(f"{group}::{value}" for group, values in GROUPS.items() for value in values)
FEWEST, MOST = 3, 8

Chances = Mapping[str, float]


@dataclass(frozen=True)
class Garment:
    """How often a garment occurs and what it comes with; chances of exclusive values may sum to less than 1 (none)."""

    share: float
    sleeve: Chances = field(default_factory=dict)
    neckline: Chances = field(default_factory=dict)
    length: Chances = field(default_factory=dict)
    material: Chances = field(default_factory=dict)
    pattern: Chances = field(default_factory=dict)
    colour: Chances = field(default_factory=dict)
    detail: Chances = field(default_factory=dict)
    warmth: float = 0.0
    formal: float = 0.02
    sporty: float = 0.02


GARMENTS: dict[str, Garment] = {
    "t-shirt": Garment(
        0.19,
        sleeve={"short": 0.88, "sleeveless": 0.12},
        neckline={"round": 0.75, "v": 0.25},
        material={"knit": 0.02, "lace": 0.01},
        pattern={"striped": 0.2, "dotted": 0.04, "floral": 0.03},
        detail={"pocket": 0.12},
        warmth=-1.2,
        sporty=0.2,
    ),
    "shirt": Garment(
        0.14,
        sleeve={"long": 0.68, "short": 0.32},
        neckline={"collar": 1.0},
        material={"denim": 0.12, "lace": 0.01},
        pattern={"checked": 0.25, "striped": 0.18, "dotted": 0.05, "floral": 0.05},
        colour={"white": 3, "blue": 2},
        detail={"buttons": 0.92, "pocket": 0.35},
        warmth=-0.3,
        formal=0.45,
    ),
    "sweater": Garment(
        0.1,
        sleeve={"long": 0.93, "sleeveless": 0.07},
        neckline={"round": 0.6, "v": 0.4},
        material={"knit": 0.85},
        pattern={"striped": 0.22, "dotted": 0.03},
        colour={"grey": 2, "red": 1.5, "brown": 1.5},
        warmth=1.0,
    ),
    "hoodie": Garment(
        0.09,
        sleeve={"long": 0.93, "sleeveless": 0.07},
        neckline={"hood": 1.0},
        material={"knit": 0.05},
        pattern={"striped": 0.04},
        colour={"grey": 2.5, "black": 1.5},
        detail={"pocket": 0.7},
        warmth=0.7,
        sporty=0.65,
    ),
    "coat": Garment(
        0.1,
        sleeve={"long": 1.0},
        neckline={"collar": 0.72, "hood": 0.28},
        length={"short": 0.25, "knee": 0.5, "long": 0.25},
        material={"leather": 0.15, "knit": 0.05},
        pattern={"checked": 0.08},
        colour={"black": 2, "brown": 3, "green": 1.5, "yellow": 0.3, "pink": 0.2},
        detail={"buttons": 0.7, "pocket": 0.6, "belt": 0.18},
        warmth=2.2,
        formal=0.1,
    ),
    "blazer": Garment(
        0.06,
        sleeve={"long": 1.0},
        neckline={"collar": 1.0},
        pattern={"checked": 0.12, "striped": 0.06},
        colour={"black": 3, "grey": 2, "blue": 2, "yellow": 0.1, "pink": 0.3},
        detail={"buttons": 0.9, "pocket": 0.6},
        warmth=0.3,
        formal=0.85,
    ),
    "dress": Garment(
        0.12,
        sleeve={"sleeveless": 0.5, "short": 0.3, "long": 0.2},
        neckline={"round": 0.5, "v": 0.42, "collar": 0.08},
        length={"short": 0.25, "knee": 0.5, "long": 0.25},
        material={"lace": 0.06, "knit": 0.05, "denim": 0.03},
        pattern={"floral": 0.2, "dotted": 0.14, "striped": 0.07, "checked": 0.03},
        colour={"red": 2, "pink": 2, "yellow": 1.5},
        detail={"belt": 0.16},
        warmth=-0.8,
        formal=0.3,
    ),
    "skirt": Garment(
        0.07,
        length={"short": 0.35, "knee": 0.4, "long": 0.25},
        material={"denim": 0.15, "leather": 0.1, "lace": 0.03, "knit": 0.04},
        pattern={"checked": 0.18, "floral": 0.1, "dotted": 0.08, "striped": 0.06},
        colour={"pink": 1.5},
        detail={"belt": 0.15, "buttons": 0.12, "pocket": 0.08},
        warmth=-0.6,
        formal=0.12,
    ),
    "trousers": Garment(
        0.09,
        length={"long": 0.88, "knee": 0.12},
        material={"denim": 0.5, "leather": 0.04},
        pattern={"checked": 0.08, "striped": 0.05},
        colour={"black": 2, "grey": 1.5, "brown": 1.5, "pink": 0.2, "yellow": 0.2},
        detail={"belt": 0.3, "pocket": 0.5},
        warmth=0.4,
        formal=0.25,
        sporty=0.1,
    ),
    "shorts": Garment(
        0.04,
        length={"short": 0.82, "knee": 0.18},
        material={"denim": 0.3},
        pattern={"checked": 0.1, "striped": 0.08, "floral": 0.04},
        detail={"pocket": 0.4, "belt": 0.12},
        warmth=-1.6,
        sporty=0.4,
    ),
}
_COLOURS: Chances = {
    "black": 0.2,
    "white": 0.16,
    "grey": 0.12,
    "blue": 0.17,
    "red": 0.1,
    "green": 0.08,
    "brown": 0.07,
    "pink": 0.06,
    "yellow": 0.04,
}
_COLOURS_OF_MATERIAL: dict[str, Chances] = {
    "denim": {"blue": 0.8, "black": 0.13, "grey": 0.07},
    "leather": {"black": 0.68, "brown": 0.27, "red": 0.05},
    "lace": {"white": 0.5, "black": 0.3, "pink": 0.12, "red": 0.08},
}
_WARMTH: Chances = {"sleeveless": -0.7, "short": -0.3, "long": 0.4, "knit": 0.8, "leather": 0.4, "lace": -0.6}


@dataclass(frozen=True)
class Outfit:
    """What is drawn and labelled; an empty string stands for "none of this group"."""

    garment: str
    sleeve: str
    neckline: str
    length: str
    material: str
    pattern: str
    colours: tuple[str, ...]
    season: str
    style: str
    details: tuple[str, ...]

    def names(self) -> list[str]:
        """Label names in the order of ``NAMES``; 3 to 8 of them."""
        chosen = {
            "garment": (self.garment,),
            "sleeve": (self.sleeve,),
            "neckline": (self.neckline,),
            "length": (self.length,),
            "colour": self.colours,
            "pattern": (self.pattern,),
            "material": (self.material,),
            "season": (self.season,),
            "style": (self.style,),
            "detail": self.details,
        }
        return [f"{group}::{value}" for group, values in GROUPS.items() for value in values if value in chosen[group]]


def sample_outfit(rng: np.random.Generator) -> Outfit:
    """An outfit whose parts fit together; season and style follow from the parts and cannot be seen by themselves."""
    garment = _choose(rng, {name: kind.share for name, kind in GARMENTS.items()})
    kind = GARMENTS[garment]
    sleeve, neckline, length = (_choose(rng, chances) for chances in (kind.sleeve, kind.neckline, kind.length))
    material = _choose(rng, kind.material)
    plain_only = material in {"denim", "leather", "lace"}
    pattern = "" if plain_only else _choose(rng, kind.pattern)
    colours = [_colour(rng, kind, material)]
    if pattern in {"striped", "checked"} and rng.random() < 0.7:
        other = _colour(rng, kind, "")
        colours += [other] if other != colours[0] else []
    season = _season(rng, kind.warmth + _WARMTH.get(sleeve, 0) + _WARMTH.get(material, 0))
    style = _style(rng, kind, colours[0], pattern, material)
    labelled = sum(map(bool, (garment, sleeve, neckline, length, material, pattern, season, style))) + len(colours)
    if labelled > MOST:
        labelled, style = labelled - bool(style), ""
    if labelled > MOST:
        labelled, season = labelled - bool(season), ""
    details = [value for value, chance in kind.detail.items() if rng.random() < chance]
    order = sorted(details[: MOST - labelled], key=GROUPS["detail"].index)
    return Outfit(garment, sleeve, neckline, length, material, pattern, tuple(colours), season, style, tuple(order))


def annotate(names: list[str], noise: float, rng: np.random.Generator) -> list[str]:
    """What an annotator writes down: each label is forgotten with probability ``noise``, and with the same probability
    a wrong value of its group joins; 3 to 8 labels remain."""
    forgotten = [name for name in names if rng.random() < noise]
    kept = set(names) - set(forgotten)
    for name in forgotten:
        if len(kept) < FEWEST:
            kept.add(name)
    for name in names:
        if rng.random() < noise and len(kept) < MOST:
            group = name.split("::", 1)[0]
            wrong = [other for value in GROUPS[group] if (other := f"{group}::{value}") not in names]
            kept.add(wrong[int(rng.integers(len(wrong)))])
    return [name for name in NAMES if name in kept]


def _choose(rng: np.random.Generator, chances: Chances) -> str:
    """One key by its chance; "" with what is missing to 1."""
    draw = rng.random() * max(1.0, sum(chances.values()))
    for value, chance in chances.items():
        draw -= chance
        if draw < 0:
            return value
    return ""


def _colour(rng: np.random.Generator, kind: Garment, material: str) -> str:
    chances = _COLOURS_OF_MATERIAL.get(material)
    if chances is None:
        weights = {name: chance * kind.colour.get(name, 1.0) for name, chance in _COLOURS.items()}
        total = sum(weights.values())
        chances = {name: weight / total for name, weight in weights.items()}
    return _choose(rng, chances) or next(iter(chances))


def _season(rng: np.random.Generator, warmth: float) -> str:
    felt = warmth + 0.35 * rng.standard_normal()
    return "winter" if felt > 1.1 else "summer" if felt < -0.9 else ""


def _style(rng: np.random.Generator, kind: Garment, colour: str, pattern: str, material: str) -> str:
    formal, sporty = kind.formal, kind.sporty
    if colour in {"black", "white", "grey"}:
        formal *= 1.6
    if pattern in {"checked", "floral", "dotted"}:
        formal *= 0.4
        sporty *= 0.3
    if material == "denim":
        formal, sporty = 0.0, 0.0
    if material == "lace":
        formal = max(formal, 0.6)
    return _choose(rng, {"formal": min(formal, 0.95), "sporty": min(sporty, 0.95)})
