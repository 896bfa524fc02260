"""The sections of params.yaml for images: download, storage and augmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict, field_validator

from labelstack.params_rules import Host, HttpAddress
from labelstack.params_section import Probability, Section

Damaged = Literal["refuse", "keep"]
Range = Annotated[tuple[float, float], Strict(False)]  # YAML has lists


class Images(Section):
    """Download, storage and decoding."""

    store_size: int = Field(256, ge=16, le=4096)
    jpeg_quality: int = Field(90, ge=1, le=100)
    damaged: Damaged = "refuse"
    shard_rows: int = Field(1000, ge=1, le=100_000)
    workers: int | None = Field(None, ge=1, le=256)
    concurrency: int = Field(16, ge=1, le=512)
    concurrency_per_host: int = Field(8, ge=1, le=512)
    http2: bool = True
    connect_timeout_s: float = Field(5, gt=0, le=600)
    first_byte_timeout_s: float = Field(10, gt=0, le=600)
    timeout_s: float = Field(20, gt=0, le=600)
    retries: int = Field(3, ge=0, le=20)
    max_failures: float = Field(0.5, ge=0, le=1)
    max_bytes: int = Field(20_000_000, ge=1000)
    allow_schemes: list[Literal["http", "https", "s3", "file"]] = ["http", "https", "s3", "file"]
    allow_hosts: list[Host] = []
    s3_endpoint_url: HttpAddress | None = None


class Augment(Section):
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
