"""`augment`: the imgaug policy for training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict, field_validator, model_validator

from labelstack.params.augment_operations import OPERATIONS
from labelstack.params.messages import one_of
from labelstack.params.section import Probability, Section

Range = Annotated[tuple[float, float], Strict(False)]  # YAML has lists
Colour = Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Strict(False), Field(min_length=3, max_length=3)]


def _in_order(value: Range) -> Range:
    if value[0] > value[1]:
        raise ValueError(f"the range must be [low, high] with low ≤ high, not {list(value)}")
    return value


def _shares(value: Range) -> Range:
    if not 0 < value[0] <= value[1] <= 1:
        raise ValueError(f"must be [low, high] with 0 < low ≤ high ≤ 1, not {list(value)}")
    return value


def _ratios(value: Range) -> Range:
    if not 0.01 <= value[0] <= value[1] <= 100:
        raise ValueError(f"must be [low, high] with 0.01 ≤ low ≤ high ≤ 100, not {list(value)}")
    return value


Shares = Annotated[Range, AfterValidator(_shares)]
Ratios = Annotated[Range, AfterValidator(_ratios)]


class EraseSection(Section):
    """A rectangle of an image is covered."""

    chance: Probability = 0.5
    area: Shares = (0.02, 0.4)
    ratio: Ratios = (0.3, 3.33)
    fill: Literal["mean"] | Colour = "mean"


class ResizedCropSection(Section):
    """A part of the image, of an area and ratio of its own, becomes the square."""

    chance: Probability = 1
    area: Shares = (0.7, 1)
    ratio: Ratios = (0.8, 1.25)


class CropIfNeededSection(Section):
    """Sides that are longer than so many times the network's are cut to that."""

    chance: Probability = 1
    sides: float = Field(2, ge=1, le=100)


class RectCropSection(Section):
    """A rectangle along the longer side becomes the square."""

    chance: Probability = 1
    ratio: Shares = (0.5, 1)


class ScaledCropSection(Section):
    """A square out of the image at one of several scales becomes the square that the network sees."""

    chance: Probability = 1
    scales: Annotated[tuple[Annotated[float, Field(ge=1, le=16)], ...], Strict(False)] = Field(
        (1, 1.0714, 1.1429), min_length=1, max_length=16
    )


class OperationSection(Section):
    """One operation of a group."""

    weight: float = Field(1, gt=0, le=1000)
    strength: Annotated[Range, AfterValidator(_in_order)] | None = None


class GroupSection(Section):
    """Operations of which an image gets one."""

    chance: Probability = 0.5
    of: dict[str, OperationSection]

    @field_validator("of")
    @classmethod
    def _known(cls, value: dict[str, OperationSection]) -> dict[str, OperationSection]:
        if not value:
            raise ValueError(f"must name at least one operation ({', '.join(OPERATIONS)})")
        for name, operation in value.items():
            bounds, strength = OPERATIONS[one_of(name, OPERATIONS, "operation")], operation.strength
            if strength is not None and not bounds.least <= strength[0] <= strength[1] <= bounds.most:
                raise ValueError(
                    f"strength of {name} must lie within {bounds.least} … {bounds.most}, not be {list(strength)}"
                )
        return value


class AugmentSection(Section):
    """The imgaug policy for training; a range of [0, 0] (scale: [1, 1]) or a chance of 0 switches an operation off."""

    flip: Probability = 0.5
    rotate: Range = (-10, 10)
    scale: Range = (1, 1)
    shift: Range = (0, 0)
    shear: Range = (0, 0)
    hue_and_saturation: Range = (-8, 8)
    gaussian_blur: Range = (0, 0.5)
    contrast: Range = (0.9, 1.1)
    sharpen: Range = (0, 0.2)
    emboss: Range = (0, 0.2)
    crop: Range = (0, 0.1)
    chance: Probability = 0.5
    resized_crop: ResizedCropSection | None = None
    crop_if_needed: CropIfNeededSection | None = None
    rect_crop: RectCropSection | None = None
    scaled_crop: ScaledCropSection | None = None
    one_of: Annotated[tuple[GroupSection, ...], Strict(False)] = Field((), max_length=8)
    erase: EraseSection | None = None

    @property
    def source_crop(self) -> ResizedCropSection | CropIfNeededSection | RectCropSection | ScaledCropSection | None:
        """The crop that is cut out of the stored image before it becomes a square; None: none."""
        return self.resized_crop or self.crop_if_needed or self.rect_crop or self.scaled_crop

    @model_validator(mode="after")
    def _one_crop(self) -> AugmentSection:
        names = ("resized_crop", "crop_if_needed", "rect_crop", "scaled_crop")
        crops = [name for name in names if getattr(self, name) is not None]
        if len(crops) > 1:
            raise ValueError(
                f"{' and '.join(crops)} are crops of the stored image, and there can be one: leave out the rest"
            )
        return self

    @field_validator(
        "rotate",
        "scale",
        "shift",
        "shear",
        "hue_and_saturation",
        "gaussian_blur",
        "contrast",
        "sharpen",
        "emboss",
        "crop",
    )
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        return _in_order(value)

    @field_validator("scale")
    @classmethod
    def _above_zero(cls, value: Range) -> Range:
        if value[0] <= 0:
            raise ValueError(f"must be above 0 ([1, 1] switches it off), not {list(value)}")
        return value

    @field_validator("gaussian_blur", "contrast", "sharpen", "emboss", "crop")
    @classmethod
    def _not_negative(cls, value: Range) -> Range:
        if value[0] < 0:
            raise ValueError(f"must not be negative, not {list(value)}")
        return value

    @field_validator("crop")
    @classmethod
    def _crop(cls, value: Range) -> Range:
        if value[1] >= 0.5:
            raise ValueError(f"is the share cut from each side, so it must stay below 0.5, not {value[1]}")
        return value
