"""`models`: one section for each base model."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from labelstack.params.augment import AugmentSection
from labelstack.params.backbone_names import BACKBONES, OWN, backbone_of
from labelstack.params.fine_tuning import (
    BatchNorm,
    FeaturesSection,
    GroupFactors,
    Phases,
    fine_tuning_problems,
    total_epochs,
)
from labelstack.params.layer_groups import group_problems
from labelstack.params.losses import Loss, PhasesSection
from labelstack.params.messages import one_of
from labelstack.params.prediction_views import Names
from labelstack.params.region_view import Mask, RegionView, Sees, mask_problems
from labelstack.params.schedule import ScheduleSection
from labelstack.params.section import Section, Seed
from labelstack.params.start_weights import StartWeights

Resize = Literal["stretch", "letterbox"]
SoftLabels = Literal["none", "published", "sum_to_one"]
MixedPer = Literal["image", "batch"]


class HeadSection(Section):
    """Pooling and dense layers on top of a backbone; the default is the flagship's head."""

    pooling: Literal["max", "average", "flatten"] = "max"
    units: list[Annotated[int, Field(ge=1, le=65536)]] = [2048, 2048]
    dropout: float = Field(0.5, ge=0, lt=1)


def put_in(content: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``content`` with ``change``: sections key by key, but for options of a backbone or loss: they are another's."""
    result = dict(content)
    for key, value in change.items():
        whole = key in ("options", "loss") or not isinstance(value, dict) or not isinstance(result.get(key), dict)
        result[key] = value if whole else put_in(result[key], value)
    if "backbone" in change and "options" not in change:
        result["options"] = {}
    if "phases" in change and "epochs" not in change:  # theirs are counted
        result.pop("epochs", None)
    return result


class ArchitectureSection(Section):
    """What a network is: its layers, and the weights that it begins with."""

    backbone: str
    weights: StartWeights = "none"
    options: dict[str, float | int | str | bool | list[int]] = {}
    head: HeadSection = HeadSection()
    groups: list[str] = []

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, value: str) -> str:
        return one_of(value, BACKBONES, "backbone")

    @field_validator("groups")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if twice := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"names {', '.join(twice)} twice")
        return value


class LearningSection(Section):
    """How a network sees images and learns from them."""

    image_size: int = Field(64, ge=16, le=2048, validate_default=True)
    resize: Resize = "stretch"
    batch_size: int = Field(32, ge=1, le=8192)
    epochs: int = Field(10, ge=1, le=10_000)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0, le=10)
    weight_decay: float = Field(0, ge=0, le=1)
    label_smoothing: float = Field(0, ge=0, lt=0.5)
    mixup: float = Field(0, ge=0, le=10)
    mixup_per: MixedPer = "image"
    cutmix: float = Field(0, ge=0, le=10)
    hard_examples: float = Field(0, ge=0, le=1)
    ema: float | None = Field(None, gt=0, lt=1)
    schedule: ScheduleSection = ScheduleSection()
    phases: Phases = ()
    features: FeaturesSection = FeaturesSection()
    batch_norm: BatchNorm = "moving"
    group_rates: GroupFactors = 1.0
    clip_norm: float | None = Field(None, gt=0, le=1e6)
    accumulate: int = Field(1, ge=1, le=1000)
    loss: Loss = "bce"
    soft_labels: SoftLabels | dict[str, SoftLabels] = "none"
    augment: bool | AugmentSection = True
    seed: Seed = 0
    tta: Names | None = None

    @model_validator(mode="before")
    @classmethod
    def _epochs_of_phases(cls, content: Any) -> Any:
        total = total_epochs(content.get("phases")) if isinstance(content, dict) else None
        return content if total is None else {"epochs": total, **content}

    @field_validator("image_size")
    @classmethod
    def _large_enough(cls, value: int, info: ValidationInfo) -> int:
        name = info.data.get("backbone")
        if name is not None and value < backbone_of(name).smallest:
            raise ValueError(f"{value} px is below the minimum of {name}, which is {backbone_of(name).smallest} px")
        return value

    @field_validator("soft_labels", mode="before")
    @classmethod
    def _tables(cls, value: Any) -> Any:
        names = get_args(SoftLabels)
        if not all(one in names for one in (value.values() if isinstance(value, dict) else [value])):
            raise ValueError(f"must be {', '.join(names)}, or a section of these by label group, not {value!r}")
        return value

    @field_validator("augment", mode="before")
    @classmethod
    def _own_policy(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return AugmentSection.model_validate(value)
        if not isinstance(value, bool | AugmentSection):
            raise ValueError(f"must be true, false or a section like augment, not {value!r}")
        return value


class ModelSection(LearningSection, ArchitectureSection):
    """One base model: its network, or, one a fold, its networks."""

    mask: Mask = "none"
    sees: Sees = "all"
    by_fold: dict[Annotated[str, Field(pattern="^(0|[1-9][0-9]?)$")], dict[str, Any]] = {}  # keys in quotes

    @model_validator(mode="before")
    @classmethod
    def _usual_size(cls, content: Any) -> Any:
        name = content.get("backbone") if isinstance(content, dict) else None
        usual = OWN[name].usual if isinstance(name, str) and name in OWN else None
        return content if usual is None else {"image_size": usual, **content}

    @model_validator(mode="after")
    def _all_phases(self) -> ModelSection:
        if isinstance(self.loss, PhasesSection) and self.loss.begins[-1] >= self.epochs:
            raise ValueError(
                f"the phases before the last of loss take {self.loss.begins[-1]} epochs, and epochs is {self.epochs}: "
                "the last would never begin. Raise epochs, or lower theirs"
            )
        return self

    @model_validator(mode="after")
    def _fine_tuning(self) -> ModelSection:
        trained = [phase.train for phase in self.phases]
        groups = group_problems(self.backbone, self.options, trained, self.group_rates)
        if problems := [*fine_tuning_problems(self), *groups, *mask_problems(self)]:
            raise ValueError("\n".join(problems))
        return self

    @property
    def region_view(self) -> RegionView:
        """What it is given of a region beside the pixels around it."""
        return RegionView(self.mask, self.sees)

    def as_trained(self) -> dict[str, Any]:
        """All that may decide the weights: how it predicts is no matter of training."""
        return self.model_dump(mode="json", exclude={"tta"})

    def of_fold(self, fold: str) -> ModelSection:
        """The network of one fold (``all``: of all of train), what ``by_fold`` says of it put in.

        Raises
        ------
        ValidationError
            When what it says is not valid there.
        """
        content = self.model_dump(mode="json", exclude={"by_fold"})
        return ModelSection.model_validate(put_in(content, self.by_fold.get(fold, {})))
