"""Kinds of `second_round` that learn from what base models say: `student` and `pseudo`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from labelstack.params.backbone_names import BACKBONES
from labelstack.params.messages import one_of
from labelstack.params.models import HeadSection, ModelSection, put_in
from labelstack.params.second_round import SecondRoundSection
from labelstack.params.start_weights import StartWeights

Teacher = Literal["equal", "fitted"]
_LAYERS = ("backbone", "weights", "options", "head")
_OF_LAYERS = ("phases", "features", "group_rates", "weights")  # of the first network, that another's layers do not fit
_ROOM = "labelstack.stages.second_kinds"


class TaughtSection(SecondRoundSection):
    """A network like the first of ``after``, or of a backbone of its own, taught by the mean of all of them."""

    takes: ClassVar[tuple[str, ...]] = ("answers",)
    flattered: ClassVar[bool] = True
    needs_folds: ClassVar[bool] = True
    teacher: Teacher = "equal"
    backbone: str | None = None
    weights: StartWeights | None = None
    options: dict[str, float | int | str | bool | list[int]] | None = None
    head: HeadSection | None = None

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, value: str | None) -> str | None:
        return None if value is None else one_of(value, BACKBONES, "backbone")

    def network(self, first: Sequence[ModelSection]) -> ModelSection:
        """How the network of one fold is made: as the first one, what is named here put in.

        Of another backbone it has none of the first one's phases, rates by layer and weights to begin with.

        Raises
        ------
        ValidationError
            When a key does not fit the others.
        """
        named = self._named()
        layers = {key: getattr(self, key) for key in _LAYERS if getattr(self, key) is not None}
        if self.head is not None:
            layers["head"] = self.head.model_dump(mode="json", exclude_unset=True)
        left = {"by_fold"} | ({"phases", "features"} if named.keys() & {"epochs", "phases"} else set())
        content = first[0].model_dump(mode="json", exclude=left | (set(_OF_LAYERS) if self.backbone else set()))
        return ModelSection.model_validate(put_in(content, layers | named))

    def own(self) -> dict[str, Any]:
        """Keys of the kind itself; its layers stand with its networks."""
        return {key: value for key, value in super().own().items() if key not in _LAYERS}


class StudentSection(TaughtSection):
    """Targets are the teacher's probabilities and the labels together."""

    work: ClassVar[str] = f"{_ROOM}.student:Student"
    kind: Literal["student"] = "student"
    target: Literal["max", "mix"] = "max"
    scale: float = Field(0.7, gt=0, le=1)
    hard: float = Field(0.5, ge=0, le=1)
    temperature: float = Field(1, ge=0.1, le=20)


class PseudoSection(TaughtSection):
    """Labels that the teacher is sure of are added to rows of train, and test rows that it is sure of to the rows."""

    work: ClassVar[str] = f"{_ROOM}.pseudo:Pseudo"
    by_metric: ClassVar[bool] = True
    kind: Literal["pseudo"] = "pseudo"
    threshold: float | None = Field(None, gt=0, lt=1)
    margin: float | None = Field(0.1, ge=0, lt=1)
    test: float = Field(0, ge=0, le=1)
