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
    rare: int = Field(0, ge=0, le=1_000_000)
    column: Line | None = None
    group_by: Line | BlocksSection | None = None

    @property
    def columns(self) -> dict[str, str]:
        """Key of this section → the column of the data set that it names, for those that name one and not a file."""
        named = {"folds.group_by": self.group_by, "folds.column": self.column}
        return {key: name for key, name in named.items() if isinstance(name, str) and not is_file(name)}


def is_file(name: str) -> bool:
    """Whether what ``group_by`` or ``column`` names is a CSV file below ``dataset.root``, and not a column."""
    return name.lower().endswith(".csv")
