"""The eight attributes of FashionAI 2018 and the values of each, in the order in which their letters stand."""

from __future__ import annotations

# Key as in the competition's files → values; the first of each says that the attribute cannot be seen.
VALUES: dict[str, tuple[str, ...]] = {
    "coat_length_labels": (
        "invisible",
        "high waist",
        "regular",
        "long",
        "micro",
        "knee",
        "midi",
        "ankle and floor",
    ),
    "collar_design_labels": ("invisible", "shirt", "peter pan", "puritan", "rib"),
    "lapel_design_labels": ("invisible", "notched", "collarless", "shawl", "plus size shawl"),
    "neck_design_labels": ("invisible", "turtle", "ruffle semi-high", "low turtle", "draped"),
    "neckline_design_labels": (
        "invisible",
        "strapless",
        "deep v",
        "straight",
        "v",
        "square",
        "off shoulder",
        "round",
        "sweetheart",
        "one shoulder",
    ),
    "pant_length_labels": ("invisible", "short", "mid", "3/4", "cropped", "full"),
    "skirt_length_labels": ("invisible", "short", "knee", "midi", "ankle", "floor"),
    "sleeve_length_labels": (
        "invisible",
        "sleeveless",
        "cup",
        "short",
        "elbow",
        "3/4",
        "wrist",
        "long",
        "extra long",
    ),
}
# Names of all values, the attribute being their label group; a value's place here is its label id.
NAMES: tuple[str, ...] = tuple(f"{key}::{value}" for key, values in VALUES.items() for value in values)
FIRST: dict[str, int] = {key: NAMES.index(f"{key}::{values[0]}") for key, values in VALUES.items()}
