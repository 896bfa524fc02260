"""`prediction`: inference with base models."""

from __future__ import annotations

from pydantic import Field, model_validator

from labelstack.params.messages import SectionProblems
from labelstack.params.prediction_views import Combine, Names, ViewSection, ill_named, view_problems
from labelstack.params.section import Section
from labelstack.support.dtypes import Dtype


class PredictionSection(Section):
    """Inference with base models."""

    tta: Names = ["identity", "hflip"]
    views: dict[str, ViewSection] = {}
    combine: Combine = "probability"
    dtype: Dtype = "float32"
    batch_size: int = Field(64, ge=1, le=8192)

    @model_validator(mode="after")
    def _known_views(self) -> PredictionSection:
        if problems := ill_named(self.views) + view_problems(self.tta, self.views, ("tta",)):
            raise SectionProblems(problems)
        return self
