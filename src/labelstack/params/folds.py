"""`folds`: cross-validation of base models and of the second level."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from labelstack.params.rules import Line
from labelstack.params.section import Section, Seed


class BlocksSection(Section):
    """So many contiguous runs of the rows as they stand in the data set, each of which belongs together."""

    blocks: int = Field(ge=2, le=1_000_000)


class FoldsSection(Section):
    """Cross-validation, shared by base models that have a network a fold, stackers, blend and thresholds."""

    k: int = Field(5, ge=2, le=100)
    seed: Seed = 0
    nested: bool = True
    method: Literal["iterative", "rarest_first"] = "iterative"
    column: Line | None = None
    group_by: Line | BlocksSection | None = None
