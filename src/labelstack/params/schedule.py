"""`models.<name>.schedule`: the learning rate over epochs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from labelstack.params.section import Section


class ScheduleSection(Section):
    """Learning rate over epochs."""

    kind: Literal["constant", "cosine", "warm_restarts", "plateau"] = "cosine"
    warmup_epochs: int = Field(0, ge=0, le=1000)
    restart_epochs: int = Field(10, ge=1, le=1000)
    minimum: float = Field(0.01, ge=0, le=1)
    factor: float = Field(0.5, gt=0, lt=1)
    patience: int = Field(3, ge=1, le=1000)
