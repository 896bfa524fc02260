"""Regions of photos in the report: scores of class maps and masks, photos under truth and under prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_WITHHELD = "test, withheld answers"
SPLITS = {"train": "train, out of fold", "validation": "validation", "test": _WITHHELD}
MASKS = {
    "with_attributes": "masks as handed in, with attributes",
    "without_attributes": "the same without attributes",
    "categories_alone": "categories alone, attributes not looked at",
    "gain": "what attributes gain",
}
OF = {"out_of_fold": "train, out of fold", "test": _WITHHELD}


@dataclass(frozen=True)
class RegionScore:
    """A score with the ends of its 95 % bootstrap interval over photos, where these are known."""

    what: str
    of: str
    score: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ShownPhoto:
    """A photo under its true and under its predicted regions, JPEG, and its own score, 0 … 1."""

    called: str
    score: float
    true: bytes
    found: bytes


@dataclass(frozen=True)
class RegionReport:
    """What segmenters found.

    Attributes
    ----------
    scores : of class maps and of masks
    class_iou : a name and its IoU in each of ``splits``, None where it neither is nor was found; the best first
    splits : in words
    photos : spread evenly over the ranking by their own score, best first
    worst : those with the lowest score, the worst first
    ranked : how many photos were ranked
    """

    scores: Sequence[RegionScore]
    class_iou: Sequence[tuple[str, Sequence[float | None]]]
    splits: Sequence[str]
    photos: Sequence[ShownPhoto] = ()
    worst: Sequence[ShownPhoto] = field(default_factory=tuple)
    ranked: int = 0


def score_rows(segmentation: Mapping[str, Any], masks: Mapping[str, Any] | None) -> list[RegionScore]:
    """Rows of metrics/segmentation.json and, where there is one, of metrics/masks.json."""
    rows = []
    for split, said in SPLITS.items():
        of = segmentation.get(split, {})
        for key, what in (("pixel_accuracy", "pixel accuracy off background"), ("mean_iou", "mean IoU over classes")):
            if key in of:
                low, high = of.get("intervals", {}).get(key, (None, None))
                rows.append(RegionScore(what, said, of[key], low, high))
    for part, said in OF.items():
        for key, found in ((masks or {}).get(part) or {}).items():
            if key in MASKS:
                rows.append(RegionScore(MASKS[key], said, found["score"], found.get("low"), found.get("high")))
    return rows


def iou_rows(segmentation: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[float | None]]]]:
    """The splits whose truth is known, and each class with its IoU in them, by that in the first."""
    there = [split for split in SPLITS if "class_iou" in segmentation.get(split, {})]
    names = list(dict.fromkeys(name for split in there for name in segmentation[split]["class_iou"]))
    rows = [(name, [segmentation[split]["class_iou"].get(name) for split in there]) for name in names]

    def worth(row: tuple[str, list[float | None]]) -> float:
        return -1.0 if row[1][0] is None else row[1][0]

    return [SPLITS[split] for split in there], sorted(rows, key=worth, reverse=True)
