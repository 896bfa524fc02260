"""`folds`: cross-validation on the validation images."""

from __future__ import annotations

from pydantic import Field

from labelstack.params.section import Section, Seed


class FoldsSection(Section):
    """Cross-validation on the validation images, shared by stackers, blend and thresholds."""

    k: int = Field(5, ge=2, le=100)
    seed: Seed = 0
    nested: bool = True
