"""`thresholds`: how probabilities become labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from labelstack.params.section import Probability, Section

Strategy = Literal["fixed", "global", "per_label", "coordinate_ascent", "per_group", "context", "expected_f"]


class ThresholdsSection(Section):
    """How probabilities become labels."""

    strategy: Strategy | Literal["auto"] = "auto"
    candidates: list[Strategy] = Field(["expected_f", "context", "global", "coordinate_ascent"], min_length=1)
    fixed: Probability = 0.3
    calibration: Literal["none", "platt", "isotonic", "beta"] = "platt"
    at_least_one: bool = False
