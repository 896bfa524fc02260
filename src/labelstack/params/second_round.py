"""`second_round`: one section for each model whose networks begin where those of base models ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from labelstack.params.dataset import Inside
from labelstack.params.kinds import class_of_kind
from labelstack.params.models import LearningSection, ModelSection, put_in
from labelstack.params.section import KindSection, Section
from labelstack.params.task import FASHIONAI
from labelstack.support.catalogue import Catalogue

Units = Literal["share", "pixels"]
_ROOM = "labelstack.stages.second_kinds"
_LEARNING = frozenset(LearningSection.model_fields)
_GENERAL = _LEARNING | {"kind", "after"}


class SecondRoundSection(LearningSection, KindSection):
    """What every section under ``second_round`` has; ``kind`` says which it is.

    Of the keys of learning only those that are named count: the others are as in the first network of the same fold.

    Attributes
    ----------
    work : ``module:class`` of the ``SecondKind`` that says what is learned and begun with
    view : ``module:function``, a ``View`` of stages/second_kinds/kind.py: which part of each image is seen
    takes : what it takes of each base model in ``after``, aspects of stages/members.py: another one reruns it
    flattered : what taught it has seen the rows that it predicts, so that its out-of-fold scores promise too much:
        stackers do not learn from it, and audit rows alone give it a weight in the blend
    needs_folds : it learns from out-of-fold predictions of train, which only networks of folds make
    by_metric : the metric decides what is learned
    """

    work: ClassVar[str]
    view: ClassVar[str] = f"{_ROOM}.kind:whole"
    takes: ClassVar[tuple[str, ...]]
    flattered: ClassVar[bool] = False
    needs_folds: ClassVar[bool] = False
    by_metric: ClassVar[bool] = False
    kind: str
    after: list[str] = Field(min_length=1)

    @field_validator("after")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        if twice := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"names {', '.join(twice)} twice")
        return value

    def network(self, first: Sequence[ModelSection]) -> ModelSection:
        """How the network of one fold is made, given those of ``after`` of the same fold: the first one's layers.

        With ``epochs`` or ``phases`` of its own it leaves the first one's phases, and what is kept for them.

        Raises
        ------
        ValidationError
            When a key does not fit them.
        """
        named = self._named()
        left = {"by_fold"} | ({"phases", "features"} if named.keys() & {"epochs", "phases"} else set())
        content = first[0].model_dump(mode="json", exclude=left)
        return ModelSection.model_validate(put_in(content, named) | {"weights": "none"})

    def own(self) -> dict[str, Any]:
        """Keys of the kind itself, defaults resolved."""
        return {key: value for key, value in self.model_dump(mode="json").items() if key not in _GENERAL}

    def files(self) -> list[str]:
        """Files below dataset.root that it reads."""
        return []

    def _named(self) -> dict[str, Any]:
        return {key: _as_named(getattr(self, key)) for key in sorted(_LEARNING & self.model_fields_set)}

    @model_serializer(mode="wrap")
    def _as_written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A default of a key of learning is the first network's, so what is not named stays so."""
        content = {key: value for key, value in write(self).items() if key not in _LEARNING}
        return content | self._named()


def _as_named(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_as_named(one) for one in value]
    return value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value


class HeatmapSection(Section):
    """Boxes about what the first network looks at; the units are in docs/params.md."""

    threshold: float = Field(0.25, gt=0, lt=1)


class CropSection(SecondRoundSection):
    """The first network, taught further on images that are cut to a box each."""

    work: ClassVar[str] = f"{_ROOM}.crop:Crop"
    view: ClassVar[str] = f"{_ROOM}.crop_view:boxes"
    takes: ClassVar[tuple[str, ...]] = ("weights",)
    kind: Literal["crop"] = "crop"
    boxes: Inside | None = None
    heatmap: HeatmapSection | None = None
    units: Units = "share"
    margin: float = Field(0, ge=0, le=1)

    def files(self) -> list[str]:
        """The file of boxes."""
        return [] if self.boxes is None else [self.boxes]

    @model_validator(mode="after")
    def _boxes_or_heat(self) -> CropSection:
        if (self.boxes is None) == (self.heatmap is None):
            what = "neither is there" if self.boxes is None else "both are there"
            raise ValueError(f"boxes (a file) or heatmap (the first network's own) says what is cut, and {what}")
        return self

    @field_validator("after")
    @classmethod
    def _one(cls, value: list[str]) -> list[str]:
        if len(value) != 1:
            raise ValueError(f"a crop begins with the networks of exactly one base model, and {len(value)} are named")
        return value


def heatmap_problems(section: SecondRoundSection, models: Mapping[str, ModelSection], format_: str) -> Iterator[str]:
    """Why the networks that a model begins with have no maps to cut by, in sentences."""
    if not isinstance(section, CropSection) or section.heatmap is None:
        return
    first = models[section.after[0]]
    folds = [first, *(first.of_fold(fold) for fold in first.by_fold)]
    if any(one.sees != "all" for one in folds):
        yield f"heatmap: needs sees: all of {section.after[0]}, whose maps are of whole images"
    if any(one.resize != "stretch" for one in folds):
        yield f"heatmap: needs resize: stretch of {section.after[0]}, whose maps are of whole images"
    if format_ == FASHIONAI and len(first.groups) != 1:
        yield (
            f"heatmap: needs a model that knows one label group, and {section.after[0]} knows "
            f"{len(first.groups) or 'all'}: an image has a box for each. Set its groups"
        )


# Every class above: kind → where it stands.
SECOND_ROUND = Catalogue(
    "labelstack.second_round",
    {
        section.model_fields["kind"].default: f"{__name__}:{section.__name__}"
        for section in list(globals().values())
        if isinstance(section, type) and issubclass(section, SecondRoundSection) and section is not SecondRoundSection
    }
    | {
        "student": "labelstack.params.students:StudentSection",
        "pseudo": "labelstack.params.students:PseudoSection",
        "neighbours": "labelstack.params.label_propagation:NeighboursSection",
    },
)


def second_section_of(kind: str) -> type[SecondRoundSection]:
    """The section of a kind that is there; raise ``UserError`` when a plug-in's entry point names something else."""
    return class_of_kind(SECOND_ROUND, kind, SecondRoundSection, "work")
