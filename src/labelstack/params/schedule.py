"""`models.<name>.schedule`: the learning rate over epochs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from labelstack.params.section import Section


class ScheduleSection(Section):
    """Learning rate over epochs."""

    kind: Literal["constant", "cosine", "warm_restarts", "plateau", "one_cycle", "triangular"] = "cosine"
    warmup_epochs: int = Field(0, ge=0, le=1000)
    restart_epochs: int = Field(10, ge=1, le=1000)
    minimum: float = Field(0.01, ge=0, le=1)
    factor: float = Field(0.5, gt=0, lt=1)
    patience: int = Field(3, ge=1, le=1000)
    reload: bool = False
    rise: float = Field(0.25, gt=0, lt=1)
    start_divisor: float = Field(25, ge=1, le=1e9)
    end_divisor: float = Field(1e5, ge=1, le=1e9)

    @model_validator(mode="after")
    def _fits_kind(self) -> ScheduleSection:
        if self.kind in ("one_cycle", "triangular") and self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs: {self.kind} warms up itself, for a share rise of all epochs: leave it out"
            )
        if self.reload and self.kind != "plateau":
            raise ValueError(f"reload: is for kind plateau, and kind is {self.kind}")
        return self
