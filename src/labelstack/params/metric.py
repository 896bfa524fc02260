"""`metric`: which score is optimised."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from labelstack.params.section import Section


class MetricSection(Section):
    """Which F-score is optimised."""

    primary: Literal["samples", "micro", "macro"] = "samples"
    beta: float = Field(1, gt=0, le=10)
