"""The sections of params.yaml for the second level: folds, stackers, blend, metric, thresholds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from labelstack.params_section import Probability, Section, Seed


class Folds(Section):
    """Cross-validation on the validation images, shared by stackers, blend and thresholds."""

    k: int = Field(5, ge=2, le=100)
    seed: Seed = 0
    nested: bool = True


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
    batch_size: int | None = Field(None, ge=1, le=8192)
    early_stopping: int | None = Field(3, ge=1, le=10_000)
    holdout: float = Field(0.1, gt=0, le=0.5)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    weight_decay: float = Field(0, ge=0, le=1)
    inputs: Literal["probability", "logit"] = "probability"
    seeds: int = Field(1, ge=1, le=100)
    seed: Seed = 0


class XGBoostStacker(Stacker):
    """Gradient-boosted trees, one booster per label."""

    kind: Literal["xgboost"] = "xgboost"
    features: Literal["all", "own", "own+context", "own+top_k"] = "own+top_k"
    top_k: int = Field(16, ge=1, le=1000)
    base: Literal["prior", "mean"] = "prior"
    n_estimators: int = Field(50, ge=1, le=10_000)
    max_depth: int = Field(4, ge=1, le=20)
    learning_rate: float = Field(0.1, gt=0, le=1)
    subsample: float = Field(1, gt=0, le=1)
    colsample_bytree: float = Field(1, gt=0, le=1)
    min_child_weight: float = Field(1, ge=0)
    reg_lambda: float = Field(1, ge=0)
    early_stopping_rounds: int | None = Field(None, ge=1, le=10_000)
    holdout: float = Field(0.2, gt=0, le=0.5)
    min_positives: int = Field(2, ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    seed: Seed = 0


class LogisticStacker(Stacker):
    """Logistic regression per label that leans on weights shared by all labels."""

    kind: Literal["logistic"] = "logistic"
    inputs: Literal["logit", "probability", "both"] = "logit"
    pooled: bool = True
    rivals: bool = True
    context: float | None = Field(None, ge=0, le=10)
    context_rank: int = Field(40, ge=1, le=10_000)
    strength: float | None = Field(None, gt=0, le=1e6)
    clip: float = Field(1e-3, gt=0, lt=0.5)


class RidgeStacker(LogisticStacker):
    """Ridge regression per label, otherwise the same."""

    kind: Literal["ridge"] = "ridge"  # type: ignore[assignment]
    inputs: Literal["logit", "probability", "both"] = "probability"
    rivals: bool = False
    context: float | None = Field(0, ge=0, le=10)


class MeanStacker(Stacker):
    """Mean of the models."""

    kind: Literal["mean"] = "mean"
    space: Literal["probability", "logit"] = "probability"


class RankMeanStacker(Stacker):
    """Mean of the models' ranks."""

    kind: Literal["rank_mean"] = "rank_mean"


class WeightedMeanStacker(Stacker):
    """Convex weights by scipy.optimize."""

    kind: Literal["weighted_mean"] = "weighted_mean"
    objective: Literal["log_loss", "f"] = "log_loss"
    metric: Literal["samples", "micro", "macro"] = "samples"
    beta: float = Field(1, gt=0, le=10)


class GreedyStacker(Stacker):
    """Greedy selection with replacement."""

    kind: Literal["greedy"] = "greedy"
    step: float = Field(0.05, gt=0, le=0.5)
    metric: Literal["samples", "micro", "macro"] = "samples"
    beta: float = Field(1, gt=0, le=10)


class PerLabelWeightsStacker(Stacker):
    """Convex weights per label, drawn to shared ones."""

    kind: Literal["per_label_weights"] = "per_label_weights"
    shrinkage: float = Field(50, ge=0, le=1e9)


STACKERS: dict[str, type[Stacker]] = {
    "cnn": CNNStacker,
    "xgboost": XGBoostStacker,
    "logistic": LogisticStacker,
    "ridge": RidgeStacker,
    "mean": MeanStacker,
    "rank_mean": RankMeanStacker,
    "weighted_mean": WeightedMeanStacker,
    "greedy": GreedyStacker,
    "per_label_weights": PerLabelWeightsStacker,
}


class Blend(Section):
    """Weighted average of stackers and base models; weights are searched on out-of-fold predictions."""

    members: list[str] = []
    method: Literal["log_loss", "greedy", "equal"] = "log_loss"
    step: float = Field(0.05, gt=0, le=0.5)


class Metric(Section):
    """Which F-score is optimised."""

    primary: Literal["samples", "micro", "macro"] = "samples"
    beta: float = Field(1, gt=0, le=10)


Strategy = Literal["fixed", "global", "per_label", "coordinate_ascent", "per_group", "context", "expected_f"]


class Thresholds(Section):
    """How probabilities become labels."""

    strategy: Strategy | Literal["auto"] = "auto"
    candidates: list[Strategy] = Field(["expected_f", "context", "global", "coordinate_ascent"], min_length=1)
    fixed: Probability = 0.3
    calibration: Literal["none", "platt", "isotonic", "beta"] = "platt"
    at_least_one: bool = False
