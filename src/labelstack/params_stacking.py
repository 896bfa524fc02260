"""The sections of params.yaml for the second level: folds, stackers, blend, metric, thresholds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from labelstack.params_section import Probability, Section


class Folds(Section):
    """Cross-validation on the validation images, shared by stackers, blend and thresholds."""

    k: int = Field(5, ge=2, le=100)
    seed: int = Field(0, ge=0)


class Stacker(Section):
    """What every section under ``stackers`` has; ``kind`` says which stacker it is."""

    kind: str


class CNNStacker(Stacker):
    """The convolutional stacker: windows over models, dense layers over labels."""

    kind: Literal["cnn"] = "cnn"
    filters: list[Annotated[int, Field(ge=1, le=4096)]] = Field([8, 16, 32, 64], min_length=1)
    kernel: int = Field(3, ge=1, le=15)
    padding: Literal["fit", "same"] = "fit"
    units: int = Field(1024, ge=1, le=65536)
    dropout: float = Field(0, ge=0, lt=1)
    epochs: int = Field(30, ge=1, le=10_000)
    batch_size: int = Field(64, ge=1, le=8192)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    weight_decay: float = Field(0, ge=0, le=1)
    inputs: Literal["probability", "logit"] = "probability"
    seed: int = Field(0, ge=0)


class XGBoostStacker(Stacker):
    """Gradient-boosted trees, one booster per label."""

    kind: Literal["xgboost"] = "xgboost"
    features: Literal["all", "own", "own+context"] = "all"
    n_estimators: int = Field(50, ge=1, le=10_000)
    max_depth: int = Field(4, ge=1, le=20)
    learning_rate: float = Field(0.1, gt=0, le=1)
    subsample: float = Field(1, gt=0, le=1)
    colsample_bytree: float = Field(1, gt=0, le=1)
    min_child_weight: float = Field(1, ge=0)
    reg_lambda: float = Field(1, ge=0)
    device: Literal["cpu", "cuda"] = "cpu"
    seed: int = Field(0, ge=0)


STACKERS: dict[str, type[Stacker]] = {"cnn": CNNStacker, "xgboost": XGBoostStacker}


class Blend(Section):
    """Weighted average of stackers and base models; weights are searched on out-of-fold predictions."""

    members: list[str] = []
    step: float = Field(0.05, gt=0, le=0.5)


class Metric(Section):
    """Which F-score is optimised."""

    primary: Literal["samples", "micro", "macro"] = "samples"
    beta: float = Field(1, gt=0, le=10)


class Thresholds(Section):
    """How probabilities become labels."""

    strategy: Literal["fixed", "global", "per_label"] = "per_label"
    fixed: Probability = 0.3
