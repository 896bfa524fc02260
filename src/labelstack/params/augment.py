"""`augment`: the imgaug policy for training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Strict, field_validator

from labelstack.params.section import Probability, Section

Range = Annotated[tuple[float, float], Strict(False)]  # YAML has lists


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
        if value[0] > value[1]:
            raise ValueError(f"the range must be [low, high] with low ≤ high, not {list(value)}")
        return value

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
