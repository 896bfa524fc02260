"""`regions`: what becomes of the class maps that segmenters give of photos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field, field_validator

from labelstack.params.dataset import INSTANCES
from labelstack.params.messages import dotted, name_fault, unknown
from labelstack.params.section import Section
from labelstack.params.segmenters import ImageSize, SegmenterParams, as_sides


class RegionsSection(Section):
    """`regions.<name>`: from class maps to regions, each with a mask, a category and a score."""

    segmenters: list[str] = []
    size: ImageSize = (512, 512)
    flip: bool = False
    connected: Literal[4, 8] = 8
    smallest: float = Field(0.0001, ge=0, le=1)
    fill_holes: Literal["none", "background", "all"] = "background"
    most: int = Field(100, ge=1, le=1000)

    @field_validator("size", mode="before")
    @classmethod
    def _squares(cls, value: object) -> object:
        return as_sides(value)


def region_problems(
    segmenters: Mapping[str, SegmenterParams],
    regions: Mapping[str, RegionsSection],
    form: str,
    *,
    by_fold: bool,
    held_out: bool,
) -> Iterator[str]:
    """A sentence for each thing that segmenters and regions lack, or that does not fit them.

    Parameters
    ----------
    form : ``dataset.format``
    by_fold : whether ``base_models`` are folds
    held_out : whether photos are held out to judge epochs by
    """
    if not segmenters and not regions:
        return
    places = {("segmenters", name) for name in segmenters} | {("regions", name) for name in regions}
    yield from (f"{dotted(place)}: {fault}" for place in sorted(places) if (fault := name_fault(place[1])))
    if form != INSTANCES:
        yield f"segmenters: learn from masks of instances, which {INSTANCES} has, and dataset.format is {form}"
    if not by_fold:
        yield (
            "segmenters: regions of train are found by networks that did not learn from their photos: set base_models "
            "to the folds' numbers"
        )
    for name, segmenter in segmenters.items():
        if segmenter.keep == "best" and not held_out:
            yield f"{dotted(('segmenters', name))}.keep: best goes by held-out photos: set training.holdout above 0"
    if not segmenters:
        yield "regions: come of segmenters, and there is none: add one under segmenters, or leave regions out"
    elif len(regions) != 1:
        found = "there are none" if not regions else f"there are {', '.join(regions)}"
        yield (
            f"regions: one section says what becomes of the segmenters' class maps, and {found}: "
            f"for example {{garments: {{}}}}"
        )
    for name, section in regions.items():
        place = dotted(("regions", name, "segmenters"))
        if segmenters:
            strange = [one for one in section.segmenters if one not in segmenters]
            yield from (f"{place}: {unknown(one, segmenters, 'segmenter')}" for one in strange)
        if twice := sorted({one for one in section.segmenters if section.segmenters.count(one) > 1}):
            yield f"{place}: {', '.join(twice)} stands there more than once: their mean is plain"
