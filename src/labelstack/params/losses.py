"""`models.<name>.loss`: the name of a loss, or a section with a kind and its options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, SerializeAsAny, Strict, ValidationError, field_validator

from labelstack.params.loss_names import LOSSES
from labelstack.params.messages import SectionProblems, explain, one_of
from labelstack.params.section import Section

T = TypeVar("T")


class LossSection(Section):
    """A loss with options, or one of a plug-in, which has none."""

    kind: str


def parsed_loss(value: Any) -> Any:
    """A name, or the section of its kind; one whose options are all the usual ones is the name.

    Raises
    ------
    ValueError
        With what is wrong, of a section in lines that begin with the key in it.
    """
    if isinstance(value, LossSection):
        return value
    if isinstance(value, str):
        if value in _COMBINED:
            raise ValueError(f"{value} is made of other losses: write {{kind: {value}, of: […]}}")
        return one_of(value, LOSSES, "loss")
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise ValueError(f"must be a loss's name, or a section with the key kind, not {value!r}")
    kind = value["kind"]
    try:
        one_of(kind, [*LOSSES.names(), *_COMBINED], "loss")
    except ValueError as error:
        raise SectionProblems([f"kind: {error}"]) from None
    section = _COMBINED.get(kind) or _WITH_OPTIONS.get(kind, LossSection)
    try:
        parsed = section.model_validate(value)
    except ValidationError as error:
        raise SectionProblems(explain(error, section)) from None
    return kind if kind not in _COMBINED and parsed == section(kind=kind) else parsed


Loss = Annotated[str | SerializeAsAny[LossSection], BeforeValidator(parsed_loss)]


class FocalSection(LossSection):
    """What is answered well counts less."""

    kind: Literal["focal"] = "focal"
    gamma: float = Field(2.0, ge=0, le=10)
    alpha: float | None = Field(None, gt=0, lt=1)


class FBetaSection(LossSection):
    """One minus the F-score of probabilities."""

    kind: Literal["f_beta"] = "f_beta"
    beta: float = Field(1.0, gt=0, le=10)


class ForgivingSection(LossSection):
    """Binary cross-entropy that weighs positives."""

    kind: Literal["forgiving"] = "forgiving"
    weight: float = Field(1.0, ge=0, le=1000)


class TermSection(Section):
    """One loss of a mix."""

    loss: Loss
    weight: float = Field(1.0, gt=0, le=1000)

    @field_validator("loss")
    @classmethod
    def _no_phases(cls, value: str | LossSection) -> str | LossSection:
        return _unphased(value, "a mix")


class MixSection(LossSection):
    """The weighted sum of losses."""

    kind: Literal["mix"] = "mix"
    of: Annotated[tuple[TermSection, ...], Strict(False)]

    @field_validator("of")
    @classmethod
    def _several(cls, value: tuple[TermSection, ...]) -> tuple[TermSection, ...]:
        return _at_least_two(value)


class PhaseSection(Section):
    """A loss, and for how many epochs; null: to the end."""

    loss: Loss
    epochs: int | None = Field(None, ge=1, le=10_000)

    @field_validator("loss")
    @classmethod
    def _no_phases(cls, value: str | LossSection) -> str | LossSection:
        return _unphased(value, "a phase")


class PhasesSection(LossSection):
    """Losses one after another."""

    kind: Literal["phases"] = "phases"
    of: Annotated[tuple[PhaseSection, ...], Strict(False)]

    @field_validator("of")
    @classmethod
    def _until_the_last(cls, value: tuple[PhaseSection, ...]) -> tuple[PhaseSection, ...]:
        *before, last = _at_least_two(value)
        if last.epochs is not None or any(phase.epochs is None for phase in before):
            raise ValueError("every phase but the last needs epochs, and the last, which goes on to the end, has none")
        return value

    @property
    def begins(self) -> tuple[int, ...]:
        """Epoch, from 0, that each phase begins with."""
        begins = [0]
        for phase in self.of[:-1]:
            begins.append(begins[-1] + (phase.epochs or 0))
        return tuple(begins)


_WITH_OPTIONS: dict[str, type[LossSection]] = {
    "focal": FocalSection,
    "f_beta": FBetaSection,
    "forgiving": ForgivingSection,
}
_COMBINED: dict[str, type[LossSection]] = {"mix": MixSection, "phases": PhasesSection}


def _at_least_two(value: tuple[T, ...]) -> tuple[T, ...]:
    if len(value) < 2:
        raise ValueError(f"must hold two losses or more, not {len(value)}")
    return value


def _unphased(value: str | LossSection, where: str) -> str | LossSection:
    if isinstance(value, PhasesSection):
        raise ValueError(f"{where} cannot hold phases: put them outside")
    return value


def plain_losses(loss: Any, key: str = "loss") -> Iterator[tuple[str, str]]:
    """Key and name of every loss that a loss is made of; of a section or of what stands in the file."""
    if isinstance(loss, Section):
        loss = loss.model_dump()
    if isinstance(loss, str):
        yield key, loss
    elif isinstance(loss, dict) and loss.get("kind") in _COMBINED:
        parts = loss.get("of")
        for place, part in enumerate(parts if isinstance(parts, list | tuple) else []):
            if isinstance(part, dict):
                yield from plain_losses(part.get("loss"), f"{key}.of.{place}.loss")
    elif isinstance(loss, dict) and isinstance(loss.get("kind"), str):
        yield f"{key}.kind", loss["kind"]
