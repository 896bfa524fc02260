"""`blend`: the weighted average of stackers and base models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from labelstack.params.section import Section

Method = Literal["log_loss", "greedy", "equal", "nelder_mead"]
BLEND = "blend"  # the ensemble's own name in tables and files


class BlendSection(Section):
    """Weighted average of stackers and base models; weights are searched on out-of-fold predictions.

    ``weights`` and ``calibration`` are for rows that know one label group each.
    """

    members: list[str] = []
    method: Method = "log_loss"
    step: float = Field(0.05, gt=0, le=0.5)
    weights: Literal["shared", "per_group"] = "per_group"
    calibration: Literal["none", "temperature"] = "temperature"
