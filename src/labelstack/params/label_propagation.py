"""The kind `neighbours` of `second_round`: labels of the rows that are nearest by a base model's features."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from labelstack.params.models import LearningSection
from labelstack.params.second_round import SecondRoundSection


class NeighboursSection(SecondRoundSection):
    """Nothing is learned: rows are kept and looked up."""

    work: ClassVar[str] = "labelstack.stages.second_kinds.neighbours:Looked"
    takes: ClassVar[tuple[str, ...]] = ("weights",)
    kind: Literal["neighbours"] = "neighbours"
    k: int = Field(40, ge=1, le=1000)
    sharpness: float = Field(10, ge=0, le=1000)

    @model_validator(mode="after")
    def _nothing_learned(self) -> NeighboursSection:
        if len(self.after) != 1:
            raise ValueError(f"after: neighbours within one base model's features, and {len(self.after)} are named")
        if named := sorted(self.model_fields_set & set(LearningSection.model_fields) - {"tta"}):
            raise ValueError(f"{named[0]}: labels are looked up and nothing is learned: leave out {', '.join(named)}")
        return self
