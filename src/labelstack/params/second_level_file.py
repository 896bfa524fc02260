"""The second level's sections of params.yaml together: what `labelstack bench` and ``StackedEnsemble`` read."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializeAsAny, ValidationError, field_validator

from labelstack.params.blend import BlendSection
from labelstack.params.folds import FoldsSection
from labelstack.params.messages import dotted, explain, one_of
from labelstack.params.metric import MetricSection
from labelstack.params.section import Section
from labelstack.params.stackers import STACKERS, StackerSection, section_of
from labelstack.params.thresholds import ThresholdsSection

# The stackers that params.yaml ships with; its other sections are the defaults of their classes.
SHIPPED_STACKERS: dict[str, dict[str, Any]] = {
    "logistic": {"kind": "logistic"},
    "logistic_both": {"kind": "logistic", "inputs": "both"},
    "ridge": {"kind": "ridge", "rivals": True, "context": None},
    "cnn": {"kind": "cnn", "inputs": "logit", "dropout": 0.3, "epochs": 20, "weight_decay": 0.01},
    "xgboost": {
        "kind": "xgboost",
        "base": "mean",
        "max_depth": 3,
        "learning_rate": 0.05,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
    },
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
        if not isinstance(value, dict):
            return value
        problems, parsed = [], {}
        for name, section in value.items():
            if isinstance(section, StackerSection):
                parsed[name] = section
                continue
            place = ("stackers", str(name))
            if not isinstance(section, dict) or "kind" not in section:
                problems.append(f"{dotted(place)}: must be a section with the key kind ({', '.join(STACKERS.names())})")
                continue
            try:
                of_kind = section_of(one_of(str(section["kind"]), STACKERS, "stacker kind"))
            except ValueError as error:
                problems.append(f"{dotted(place)}.kind: {error}")
                continue
            try:
                parsed[name] = of_kind.model_validate(section)
            except ValidationError as error:
                problems += explain(error, of_kind, place)
        if problems:
            raise ValueError("\n".join(problems))
        return parsed


def default_second_level() -> SecondLevel:
    """The second level that params.yaml ships with, for cubes that come without a params.yaml."""
    return SecondLevel.model_validate({"stackers": SHIPPED_STACKERS})
