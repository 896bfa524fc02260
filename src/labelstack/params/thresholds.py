"""`thresholds`: how probabilities become labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from labelstack.params.section import Probability, Section

Strategy = Literal["fixed", "global", "per_label", "coordinate_ascent", "per_group", "context", "expected_f"]

ARGMAX: Literal["argmax"] = "argmax"  # the most probable label, which is none of those that tell how many there are
TEMPERATURE = "temperature"


class ThresholdsSection(Section):
    """How probabilities become labels."""

    strategy: Strategy | Literal["auto", "argmax"] = "auto"
    candidates: list[Strategy] = Field(["expected_f", "context", "global", "coordinate_ascent"], min_length=1)
    fixed: Probability = 0.3
    calibration: Literal["none", "platt", "isotonic", "beta", "temperature"] = "platt"
    at_least_one: bool = False

    @property
    def exclusive(self) -> bool:
        """Whether labels exclude each other: every image has exactly one, and its probabilities sum to 1."""
        return self.strategy == ARGMAX
