"""`segmenters`: networks that give every pixel of a photo a class, and how they learn."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, field_validator, model_validator

from labelstack.params.augment import AugmentSection
from labelstack.params.backbone_names import BACKBONES
from labelstack.params.messages import one_of
from labelstack.params.schedule import ScheduleSection
from labelstack.params.section import Section
from labelstack.params.start_weights import StartWeights

Side = Annotated[int, Field(ge=16, le=4096)]
ImageSize = Annotated[tuple[Side, Side], Strict(False)]
Factor = Annotated[float, Field(gt=0, le=10)]
Weight = Annotated[float, Field(ge=0, le=1000)]


def as_sides(value: Any) -> Any:
    """A side of squares is height and width."""
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


class DecoderSection(Section):
    """The way from the deepest map back to the image's size."""

    batch_norm: bool = True
    blur: bool = False
    self_attention: bool = False
    middle: bool = True
    last_cross: bool = True
    filters: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Strict(False)] = ()


class PixelLossSection(Section):
    """The weighted sum of losses over pixels."""

    cross_entropy: Weight = 1.0
    dice: Weight = 0.0
    focal: Weight = 0.0
    gamma: float = Field(2.0, ge=0, le=10)
    class_weights: Literal["none", "balanced"] | Annotated[tuple[Weight, ...], Strict(False)] = "none"
    ignored: int | None = Field(None, ge=0, le=65535)

    @model_validator(mode="after")
    def _something(self) -> PixelLossSection:
        if not self.cross_entropy + self.dice + self.focal:
            raise ValueError("set at least one of cross_entropy, dice and focal above 0")
        return self


class SegmenterPhase(Section):
    """So many epochs at one size in which some groups of layers learn, in so many cycles of the schedule."""

    epochs: int = Field(ge=1, le=10_000)
    cycles: int = Field(1, ge=1, le=10_000)
    train: Literal["decoder", "all"] = "all"
    batch_norm: Literal["learn", "moving", "frozen"] = "learn"
    image_size: ImageSize = (224, 224)
    batch_size: int = Field(8, ge=1, le=1024)
    learning_rate: float = Field(1e-3, gt=0, le=10)
    group_rates: Annotated[tuple[Factor, Factor, Factor], Strict(False)] = (0.1, 0.1, 1.0)
    schedule: ScheduleSection = ScheduleSection(kind="one_cycle", end_divisor=250_000)

    @field_validator("image_size", mode="before")
    @classmethod
    def _squares(cls, value: Any) -> Any:
        return as_sides(value)

    @model_validator(mode="after")
    def _whole_cycles(self) -> SegmenterPhase:
        if self.epochs % self.cycles:
            raise ValueError(f"epochs: {self.epochs} are not divisible into {self.cycles} cycles of whole epochs")
        if self.schedule.kind == "plateau":
            raise ValueError("schedule.kind: plateau waits for a score, and cycles are of fixed length: choose another")
        return self


class SegmenterParams(Section):
    """`segmenters.<name>`: a U-Net and its training; classes are those of the data set."""

    backbone: str = "resnet34"
    weights: StartWeights = "none"
    options: dict[str, float | int | str | bool | list[int]] = {}
    faithful: bool = False
    decoder: DecoderSection = DecoderSection()
    loss: PixelLossSection = PixelLossSection()
    phases: Annotated[tuple[SegmenterPhase, ...], Strict(False)] = Field((SegmenterPhase(epochs=10),), min_length=1)
    weight_decay: float = Field(1e-2, ge=0, le=1)
    momentum: Annotated[tuple[float, float], Strict(False)] = (0.95, 0.85)
    keep: Literal["last", "best"] = "last"
    monitor: Literal["mean_iou", "pixel_accuracy"] = "mean_iou"
    augment: bool | AugmentSection = True

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, value: str) -> str:
        return one_of(value, BACKBONES, "backbone")

    @field_validator("momentum")
    @classmethod
    def _below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[1] <= value[0] < 1:
            raise ValueError(f"must be [high, low] with 0 ≤ low ≤ high < 1, not {list(value)}")
        return value

    @field_validator("augment")
    @classmethod
    def _moves_masks(cls, value: bool | AugmentSection) -> bool | AugmentSection:
        if isinstance(value, AugmentSection):
            set_ = [
                name for name in ("resized_crop", "crop_if_needed", "rect_crop", "scaled_crop") if getattr(value, name)
            ]
            if set_:
                raise ValueError(f"{' and '.join(set_)}: cut stored images by their own size: leave them out")
        return value

    @model_validator(mode="after")
    def _one_decoder(self) -> Self:
        if self.faithful and self.decoder != DecoderSection():
            raise ValueError("decoder: faithful says all of it: leave one of the two out")
        return self

    @property
    def epochs(self) -> int:
        """Of all phases."""
        return sum(phase.epochs for phase in self.phases)

    def of_classes(self, classes: int) -> SegmenterSection:
        """The same for so many classes, background being the last; raise ``ValidationError`` where they do not fit."""
        return SegmenterSection.model_validate(self.model_dump(mode="json") | {"classes": classes})


class SegmenterSection(SegmenterParams):
    """The same with the classes that are told apart."""

    classes: int = Field(47, ge=2, le=1024)
    background: int | None = Field(None, ge=0, le=1023)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        problems = []
        if self.background is not None and self.background >= self.classes:
            problems.append(f"background: there are classes 0 … {self.classes - 1}, and it is {self.background}")
        weights = self.loss.class_weights
        if isinstance(weights, tuple) and len(weights) != self.classes:
            problems.append(f"loss.class_weights: {len(weights)} weights for {self.classes} classes: name one for each")
        if self.loss.ignored is not None and self.loss.ignored < self.classes:
            problems.append(f"loss.ignored: {self.loss.ignored} is a class; take one of {self.classes} … 65535")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def background_class(self) -> int:
        """The class of what is nothing; without ``background`` the last."""
        return self.classes - 1 if self.background is None else self.background
