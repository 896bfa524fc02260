"""`prediction.views`: parts of an image that networks are asked about, and the single views that each stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import Field, field_validator, model_validator

from labelstack.params.augment import Ratios, ResizedCropSection, Shares
from labelstack.params.messages import dotted, one_of, unknown
from labelstack.params.section import Section, Seed

Combine = Literal["probability", "logit"]
Place = Literal[
    "center", "top_left", "top_right", "bottom_left", "bottom_right", "top", "left", "right", "bottom", "random"
]
FIVE: tuple[Place, ...] = ("center", "top_left", "top_right", "bottom_left", "bottom_right")
NINE: tuple[Place, ...] = (*FIVE, "top", "left", "right", "bottom")
RANDOM = "random"
MOST = 256  # views of a network
_SHARE = 0.875  # 224 of 256 pixels, as most published networks were judged
_SEVERAL: dict[str, tuple[Place, ...]] = {"five": FIVE, "nine": NINE}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
Names = Annotated[list[str], Field(min_length=1)]


class OneView(Section):
    """A single view, all that decides it and nothing else; with nothing but ``flip`` it is the whole image.

    Attributes
    ----------
    crop : where a part of fixed size lies; None: of ``area``, or the whole image
    share : of width and height that the part has
    scale : the part is a square, and the image's short side is so many times its side
    area, ratio : of a random part, as of ``augment.resized_crop``
    flip : mirrored left to right
    seed, number : with the image's id what is random comes from these
    """

    crop: Place | None = None
    share: float | None = None
    scale: float | None = None
    area: Shares | None = None
    ratio: Ratios | None = None
    flip: bool = False
    seed: int | None = None
    number: int | None = None

    @property
    def whole(self) -> bool:
        """Whether all of the image is seen."""
        return self.crop is None and self.area is None

    def as_json(self) -> str | dict[str, Any]:
        """``identity``, ``hflip`` or what is not the default, for JSON; ``one_view`` reads it."""
        if self.whole:
            return "hflip" if self.flip else "identity"
        return self.model_dump(mode="json", exclude_defaults=True)


def one_view(content: str | Mapping[str, Any]) -> OneView:
    """A single view from what ``as_json`` wrote."""
    return OneView(flip=content == "hflip") if isinstance(content, str) else OneView(**content)


class ViewSection(Section):
    """A part of the image, or several that belong together."""

    crop: str | None = None
    share: float | None = Field(None, gt=0, le=1)
    scale: float | None = Field(None, ge=1, le=16)
    random_crop: Shares | None = None
    ratio: Ratios | None = None
    n: int = Field(1, ge=1, le=64)
    flip: bool | Literal["both"] = False
    seed: Seed = 0

    @field_validator("crop")
    @classmethod
    def _known_place(cls, value: str | None) -> str | None:
        return None if value is None else one_of(value, (*NINE, *_SEVERAL, RANDOM), "crop")

    @field_validator("flip", mode="before")
    @classmethod
    def _known_flip(cls, value: Any) -> Any:
        if not isinstance(value, bool) and value != "both":
            raise ValueError(f"must be true, false or both, not {value!r}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> ViewSection:
        if problems := list(self._misfits()):
            raise ValueError("\n".join(problems))
        return self

    def _misfits(self) -> Iterator[str]:
        placed = self.crop is not None or self.scale is not None
        if placed == (self.random_crop is not None):
            what = "both" if placed else "neither"
            yield f"a view has either crop (or scale) or random_crop, and {what} is named; whole: identity, hflip"
        if self.share is not None and self.scale is not None:
            yield "share and scale both say how large the part is: leave one out"
        if self.share is not None and self.crop is None:
            yield "share is of a crop: name crop (center, five, …) too"
        if self.ratio is not None and self.random_crop is None:
            yield "ratio is of random_crop"
        if not self.random and (self.n > 1 or self.seed):
            yield "n and seed are for what is random: random_crop, or crop: random"

    @property
    def random(self) -> bool:
        """Whether each image has parts of its own."""
        return self.random_crop is not None or self.crop == RANDOM

    def single(self, seed: int) -> list[OneView]:
        """The views that it stands for, in order, each unmirrored one before its mirror image.

        Parameters
        ----------
        seed : the global one, to which the section's is added
        """
        if self.random_crop is not None:
            ratio = self.ratio or ResizedCropSection.model_fields["ratio"].default
            parts = [OneView(area=self.random_crop, ratio=ratio)]
        else:
            share = None if self.scale is not None else self.share or _SHARE
            places = _SEVERAL.get(self.crop or "", (cast(Place, self.crop or "center"),))
            parts = [OneView(crop=place, share=share, scale=self.scale) for place in places]
        if self.random:
            own = {"seed": seed + self.seed}
            parts = [part.model_copy(update={**own, "number": k}) for part in parts for k in range(self.n)]
        flips = [False, True] if self.flip == "both" else [self.flip]
        return [part.model_copy(update={"flip": flip}) for part in parts for flip in flips]


BUILT_IN: dict[str, ViewSection | OneView] = {
    "identity": OneView(),
    "hflip": OneView(flip=True),
    "ten_crops": ViewSection(crop="five", flip="both"),
}


def single_views(names: Sequence[str], views: Mapping[str, ViewSection], seed: int) -> dict[str, OneView]:
    """The single views behind names, in order: ``name``, or ``name#0``, ``name#1``, … where it stands for several.

    A name that is there twice counts twice: its key says so.
    """
    found: dict[str, OneView] = {}
    for place, name in enumerate(names):
        section = BUILT_IN.get(name) or views[name]
        single = [section] if isinstance(section, OneView) else section.single(seed)
        again = "" if name not in names[:place] else f"@{place}"
        for number, view in enumerate(single):
            found[f"{name}{again}" if len(single) == 1 else f"{name}{again}#{number}"] = view
    return found


def view_problems(names: Sequence[str], views: Mapping[str, ViewSection], place: Sequence[str]) -> list[str]:
    """What is wrong with a list of views: names that are not there, or more views than a network may have.

    Parameters
    ----------
    place : of the list in params.yaml
    """
    known = [*BUILT_IN, *views]
    problems = [
        f"{dotted((*place, str(number)))}: {unknown(name, known, 'view')}"
        for number, name in enumerate(names)
        if name not in known
    ]
    if not problems and (n := len(single_views(names, views, 0))) > MOST:
        problems.append(f"{dotted(place)}: {n} views of each image; at most {MOST} are possible")
    return problems


def ill_named(views: Mapping[str, Any]) -> list[str]:
    """A line for each name under ``views`` that cannot be one."""
    return [
        f"{dotted(('views', name))}: "
        + (
            f"is there already: {', '.join(BUILT_IN)} are the names of views that need no section"
            if name in BUILT_IN
            else "a name is lower-case letters, digits and _ and starts with a letter"
        )
        for name in views
        if name in BUILT_IN or not _NAME.fullmatch(name)
    ]


def raw_view_problems(content: Mapping[Any, Any]) -> list[str]:
    """Names of views that are not there, of unchecked params, as far as these have sections."""
    prediction = content.get("prediction")
    prediction = prediction if isinstance(prediction, dict) else {}
    views = prediction.get("views")
    known = [*BUILT_IN, *(name for name in (views if isinstance(views, dict) else {}) if isinstance(name, str))]
    lists: list[tuple[tuple[str, ...], Any]] = [(("prediction", "tta"), prediction.get("tta"))]
    for section in ("models", "second_round"):
        models = content.get(section)
        for name, model in models.items() if isinstance(models, dict) else []:
            lists += [((section, str(name), *place), names) for place, names in _lists_of(model)]
    return [
        f"{dotted((*place, str(number)))}: {unknown(name, known, 'view')}"
        for place, names in lists
        if isinstance(names, list)
        for number, name in enumerate(names)
        if isinstance(name, str) and name not in known
    ]


def _lists_of(model: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(model, dict):
        return
    yield ("tta",), model.get("tta")
    by_fold = model.get("by_fold")
    for fold, own in by_fold.items() if isinstance(by_fold, dict) else []:
        if isinstance(own, dict):
            yield ("by_fold", str(fold), "tta"), own.get("tta")
