"""`thresholds`: how probabilities become labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict, field_validator

from labelstack.params.section import Probability, Section

Strategy = Literal[
    "fixed",
    "global",
    "per_label",
    "coordinate_ascent",
    "per_group",
    "context",
    "expected_f",
    "per_fold",
    "top_share",
    "group_limits",
    "mean_count",
]
Count = Annotated[int, Field(ge=0, le=1000)]

ARGMAX: Literal["argmax"] = "argmax"  # the most probable label, which is none of those that tell how many there are
TEMPERATURE = "temperature"


class ThresholdsSection(Section):
    """How probabilities become labels."""

    strategy: Strategy | Literal["auto", "argmax"] = "auto"
    candidates: list[Strategy] = Field(["expected_f", "context", "global", "coordinate_ascent"], min_length=1)
    fixed: Probability = 0.3
    limits: dict[str, Annotated[tuple[Count, Count], Strict(False)]] = {}
    calibration: Literal["none", "platt", "isotonic", "beta", "temperature"] = "platt"
    at_least_one: bool = False
    prior_bias: bool = False
    rows: Annotated[int, Field(ge=100, le=100_000_000)] | None = None

    @field_validator("limits")
    @classmethod
    def _least_and_most(cls, value: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        for group, (least, most) in value.items():
            if not least <= most or not most:
                raise ValueError(f"{group}: must be [least, most] with least ≤ most and most ≥ 1, not {[least, most]}")
        return value

    @property
    def by_new_images(self) -> bool:
        """Whether the images that will be decided on have a say in how."""
        return "mean_count" in (self.strategy, *(self.candidates if self.strategy == "auto" else ()))

    @property
    def exclusive(self) -> bool:
        """Whether labels exclude each other: every image has exactly one, and its probabilities sum to 1."""
        return self.strategy == ARGMAX
