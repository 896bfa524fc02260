"""`stackers`: one section for each stacker; `kind` says which it is."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from labelstack.params.kinds import class_of_kind
from labelstack.params.section import KindSection, Seed
from labelstack.support.catalogue import Catalogue

_ROOM = "labelstack.stacking.stackers"
Rows = Annotated[int, Field(ge=100, le=100_000_000)]  # that are learnt from at most


class StackerSection(KindSection):
    """What every section under ``stackers`` has; ``kind`` says which stacker it is.

    Its other keys are the arguments of the constructor of the class that ``stacker`` names as ``module:class``. The
    entry point of a plug-in names such a section. ``exclusive`` ones are for labels of which exactly one is true.
    """

    stacker: ClassVar[str]
    exclusive: ClassVar[bool] = False


class CNNStackerSection(StackerSection):
    """The convolutional stacker: a regression and what windows over models add to it, or the published layers."""

    stacker: ClassVar[str] = f"{_ROOM}.cnn:CNNStacker"
    kind: Literal["cnn"] = "cnn"
    structure: Literal["residual", "published"] = "residual"
    start: Literal["logistic", "mean", "prior"] = "logistic"
    filters: list[Annotated[int, Field(ge=1, le=4096)]] | None = None
    kernel: int = Field(3, ge=1, le=15)
    padding: Literal["fit", "same"] = "fit"
    units: int | None = Field(None, ge=1, le=65536)
    rank: int = Field(0, ge=0, le=4096)
    dropout: float = Field(0, ge=0, lt=1)
    epochs: int = Field(30, ge=0, le=10_000)
    batch_size: int | None = Field(None, ge=1, le=8192)
    early_stopping: int | None = Field(3, ge=1, le=10_000)
    holdout: float = Field(0.1, gt=0, le=0.5)
    learning_rate: float | None = Field(None, gt=0, le=1)
    weight_decay: float = Field(0, ge=0, le=1)
    averaging: float = Field(0.98, ge=0, lt=1)
    inputs: Literal["probability", "logit", "both"] | None = None
    seeds: int = Field(1, ge=1, le=100)
    rows: Rows | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _of_structure(self) -> CNNStackerSection:
        if self.structure == "published" and self.inputs == "both":
            raise ValueError("inputs: both needs structure: residual; the published layers see one value of each model")
        return self

    def settled(self) -> dict[str, Any]:
        """All keys but ``kind``, those that are null filled in as the structure has them."""
        defaults = CNN_STRUCTURES[self.structure]
        return {name: defaults.get(name) if value is None else value for name, value in self if name != "kind"}


# What keys of ``CNNStackerSection`` mean when they are null.
CNN_STRUCTURES: dict[str, dict[str, Any]] = {
    "published": {"filters": [8, 16, 32, 64], "units": 1024, "learning_rate": 1e-3, "inputs": "probability"},
    "residual": {"filters": [16, 32], "units": 32, "learning_rate": 5e-3, "inputs": "logit"},
}


class XGBoostStackerSection(StackerSection):
    """Gradient-boosted trees, one booster per label."""

    stacker: ClassVar[str] = f"{_ROOM}.xgb:XGBoostStacker"
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
    rows: Rows | None = None
    seed: Seed = 0


class LogisticStackerSection(StackerSection):
    """Logistic regression per label that leans on weights shared by all labels."""

    stacker: ClassVar[str] = f"{_ROOM}.linear:LogisticStacker"
    kind: Literal["logistic"] = "logistic"
    inputs: Literal["logit", "probability", "both"] = "logit"
    pooled: bool = True
    rivals: bool = True
    context: float | None = Field(None, ge=0, le=10)
    context_rank: int = Field(40, ge=1, le=10_000)
    strength: float | None = Field(None, gt=0, le=1e6)
    clip: float = Field(1e-3, gt=0, lt=0.5)
    rows: Rows | None = None


class RidgeStackerSection(LogisticStackerSection):
    """Ridge regression per label, otherwise the same."""

    stacker: ClassVar[str] = f"{_ROOM}.linear:RidgeStacker"
    kind: Literal["ridge"] = "ridge"  # type: ignore[assignment]
    inputs: Literal["logit", "probability", "both"] = "probability"
    rivals: bool = False
    context: float | None = Field(0, ge=0, le=10)


class MeanStackerSection(StackerSection):
    """Mean of the models."""

    stacker: ClassVar[str] = f"{_ROOM}.means:MeanStacker"
    kind: Literal["mean"] = "mean"
    space: Literal["probability", "logit"] = "probability"


class RankMeanStackerSection(StackerSection):
    """Mean of the models' ranks."""

    stacker: ClassVar[str] = f"{_ROOM}.means:RankMeanStacker"
    kind: Literal["rank_mean"] = "rank_mean"
    rows: Rows | None = None


class WeightedMeanStackerSection(StackerSection):
    """Convex weights by scipy.optimize."""

    stacker: ClassVar[str] = f"{_ROOM}.means:WeightedMeanStacker"
    kind: Literal["weighted_mean"] = "weighted_mean"
    objective: Literal["log_loss", "f"] = "log_loss"
    rows: Rows | None = None
    metric: Literal["samples", "micro", "macro"] = "samples"
    beta: float = Field(1, gt=0, le=10)


class GreedyStackerSection(StackerSection):
    """Greedy selection with replacement."""

    stacker: ClassVar[str] = f"{_ROOM}.means:GreedyStacker"
    kind: Literal["greedy"] = "greedy"
    rows: Rows | None = None
    step: float = Field(0.05, gt=0, le=0.5)
    metric: Literal["samples", "micro", "macro"] = "samples"
    beta: float = Field(1, gt=0, le=10)


class PerLabelWeightsStackerSection(StackerSection):
    """Convex weights per label, drawn to shared ones."""

    stacker: ClassVar[str] = f"{_ROOM}.means:PerLabelWeightsStacker"
    kind: Literal["per_label_weights"] = "per_label_weights"
    rows: Rows | None = None
    shrinkage: float = Field(50, ge=0, le=1e9)


class MultinomialStackerSection(StackerSection):
    """Multinomial logistic regression on log probabilities, for labels of which exactly one is true."""

    stacker: ClassVar[str] = f"{_ROOM}.multinomial:MultinomialStacker"
    exclusive: ClassVar[bool] = True
    kind: Literal["multinomial"] = "multinomial"
    strength: float | None = Field(None, gt=0, le=1e6)
    clip: float = Field(1e-3, gt=0, lt=0.5)


class SoftprobStackerSection(StackerSection):
    """Gradient-boosted trees with one softmax, for labels of which exactly one is true."""

    stacker: ClassVar[str] = f"{_ROOM}.softprob:SoftprobStacker"
    exclusive: ClassVar[bool] = True
    kind: Literal["softprob"] = "softprob"
    n_estimators: int = Field(50, ge=1, le=10_000)
    max_depth: int = Field(3, ge=1, le=20)
    learning_rate: float = Field(0.05, gt=0, le=1)
    subsample: float = Field(0.8, gt=0, le=1)
    colsample_bytree: float = Field(0.5, gt=0, le=1)
    min_child_weight: float = Field(5, ge=0)
    reg_lambda: float = Field(1, ge=0)
    seed: Seed = 0


# Every class above: kind → where it stands.
STACKERS = Catalogue(
    "labelstack.stackers",
    {
        section.model_fields["kind"].default: f"{__name__}:{section.__name__}"
        for section in list(globals().values())
        if isinstance(section, type) and issubclass(section, StackerSection) and section is not StackerSection
    },
)


def section_of(kind: str) -> type[StackerSection]:
    """The section of a kind that is there; raise ``UserError`` when a plug-in's entry point names something else."""
    return class_of_kind(STACKERS, kind, StackerSection, "stacker")
