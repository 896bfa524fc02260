"""`training`: what all base models share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from labelstack.params.section import Section


class TrainingSection(Section):
    """What all base models share."""

    holdout: float = Field(0.1, ge=0, le=0.5)
    holdout_max: int = Field(5000, ge=1)
    monitor: Literal["holdout", "fold"] = "holdout"
    patience: int | None = Field(5, ge=1, le=1000)
    mixed_precision: bool = False
    multi_gpu: bool = False
    workers: int | None = Field(None, ge=0, le=256)
    shuffle_shards: int = Field(8, ge=1, le=1000)
