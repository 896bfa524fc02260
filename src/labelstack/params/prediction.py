"""`prediction`: inference with base models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from labelstack.params.section import Section


class PredictionSection(Section):
    """Inference with base models."""

    tta: list[Literal["identity", "hflip"]] = Field(["identity", "hflip"], min_length=1)
    batch_size: int = Field(64, ge=1, le=8192)
