"""The second level's sections of params.yaml together: what `labelstack bench` and ``StackedEnsemble`` read."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from labelstack.params.blend import BlendSection
from labelstack.params.folds import FoldsSection
from labelstack.params.kinds import parsed_by_kind
from labelstack.params.metric import ATTRIBUTE_METRICS, MetricSection
from labelstack.params.section import Section
from labelstack.params.stackers import STACKERS, StackerSection, section_of
from labelstack.params.thresholds import ARGMAX, TEMPERATURE, ThresholdsSection

# The stackers that params.yaml ships with; its other sections are the defaults of their classes.
SHIPPED_STACKERS: dict[str, dict[str, Any]] = {
    "logistic": {"kind": "logistic"},
    "logistic_both": {"kind": "logistic", "inputs": "both"},
    "ridge": {"kind": "ridge", "rivals": True, "context": None},
    "cnn": {"kind": "cnn"},
    "xgboost": {
        "kind": "xgboost",
        "base": "mean",
        "max_depth": 3,
        "learning_rate": 0.05,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
    },
}


# Those of cubes of which every row knows one label group.
GROUP_STACKERS: dict[str, dict[str, Any]] = {
    "multinomial": {"kind": "multinomial"},
    "softprob": {"kind": "softprob"},
    "logistic": {"kind": "logistic"},
}


class SecondLevel(Section):
    """Folds, stackers, blend, metric and thresholds."""

    folds: FoldsSection = FoldsSection()
    stackers: dict[str, SerializeAsAny[StackerSection]] = Field(min_length=1)
    blend: BlendSection = BlendSection()
    metric: MetricSection = MetricSection()
    thresholds: ThresholdsSection = ThresholdsSection()

    @field_validator("stackers", mode="before")
    @classmethod
    def _by_kind(cls, value: Any) -> Any:
        return parsed_by_kind(value, "stackers", "stacker kind", STACKERS, section_of)

    @field_validator("thresholds")
    @classmethod
    def _for_thresholds(cls, value: ThresholdsSection, info: ValidationInfo) -> ThresholdsSection:
        blend = info.data.get("blend")
        if value.exclusive and blend is not None and blend.method == "nelder_mead":
            raise ValueError("strategy argmax has no thresholds that blend.method: nelder_mead goes by: use another")
        return value

    @model_validator(mode="after")
    def _for_one_label(self) -> SecondLevel:
        names = [name for name, section in self.stackers.items() if section.exclusive]
        if names and not self.thresholds.exclusive:
            raise ValueError(f"stackers.{', '.join(names)}: for exactly one label, as thresholds.strategy argmax gives")
        return self


def for_label_groups(level: SecondLevel, *, shipped: bool) -> SecondLevel:
    """A second level for rows that know one label group each: argmax, a temperature, mAP.

    ``shipped`` says that its stackers were chosen by nobody: then they are those for such rows.
    """
    content = level.model_dump()
    content["thresholds"]["strategy"] = ARGMAX
    if content["thresholds"]["calibration"] != "none":
        content["thresholds"]["calibration"] = TEMPERATURE
    if level.metric.primary not in ATTRIBUTE_METRICS:
        content["metric"]["primary"] = ATTRIBUTE_METRICS[0]
    if shipped:
        content["stackers"] = GROUP_STACKERS
    return SecondLevel.model_validate(content)


def default_second_level() -> SecondLevel:
    """The second level that params.yaml ships with, for cubes that come without a params.yaml."""
    return SecondLevel.model_validate({"stackers": SHIPPED_STACKERS})
