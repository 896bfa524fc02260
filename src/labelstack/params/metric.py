"""`metric`: which score is optimised, and which scores there are."""

from __future__ import annotations

from pydantic import Field, field_validator

from labelstack.params.messages import one_of
from labelstack.params.section import Section
from labelstack.support.catalogue import Catalogue

# Name → what makes a scoring.metric.Metric of this section.
METRICS = Catalogue(
    "labelstack.metrics",
    {
        "samples": "labelstack.scoring.metric:f_metric",
        "micro": "labelstack.scoring.metric:f_metric",
        "macro": "labelstack.scoring.metric:f_metric",
        "mean_average_precision": "labelstack.scoring.mean_average_precision:MeanAveragePrecision",
        "attribute_map": "labelstack.scoring.attribute_metric:AttributeMetric",
        "attribute_map_official": "labelstack.scoring.attribute_metric:AttributeMetric",
        "basic_precision": "labelstack.scoring.attribute_metric:AttributeMetric",
    },
)

# Of rows that know one label group each.
ATTRIBUTE_METRICS = ("attribute_map", "attribute_map_official", "basic_precision")


class MetricSection(Section):
    """Which score is optimised; ``beta`` is that of the F-score, by which label sets are decided in any case."""

    primary: str = "samples"
    beta: float = Field(1, gt=0, le=10)

    @field_validator("primary")
    @classmethod
    def _known(cls, value: str) -> str:
        return value if value in METRICS else one_of(value, METRICS.names(), "metric")
