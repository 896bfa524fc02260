"""`models.<name>.phases` and `.features`: which layers learn when, and what is computed once for frozen ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, field_validator

from labelstack.params.schedule import ScheduleSection
from labelstack.params.section import Section

if TYPE_CHECKING:
    from labelstack.params.models import LearningSection

BatchNorm = Literal["moving", "frozen", "fixed"]
HEAD, ALL = "head", "all"
_LAST = re.compile(r"last_([1-9][0-9]?)")


class TrainPhase(Section):
    """So many epochs in which some groups of layers learn; null: as the model says."""

    epochs: int = Field(ge=1, le=10_000)
    train: str
    learning_rate: float | None = Field(None, gt=0, le=10)
    schedule: ScheduleSection | None = None
    batch_norm: BatchNorm | None = None

    @field_validator("train")
    @classmethod
    def _groups(cls, value: str) -> str:
        if value not in (HEAD, ALL) and not _LAST.fullmatch(value):
            raise ValueError(f"must be {HEAD}, {ALL} or last_<k>, such as last_2 (the head is the last group)")
        return value


class FeaturesSection(Section):
    """Outputs of a frozen backbone that are computed once and kept."""

    variants: int = Field(0, ge=0, le=1000)
    max_gib: float = Field(4, gt=0, le=10_000)


def parsed_rates(value: Any) -> Any:
    """A number, or a list of numbers; raise ``ValueError`` when it is neither."""
    each = list(value) if isinstance(value, list | tuple) else [value]
    numbers = [one for one in each if isinstance(one, int | float) and not isinstance(one, bool) and 0 < one <= 10]
    if not each or len(numbers) < len(each):
        raise ValueError(f"must be a factor above 0 and at most 10, or a list of such, not {value!r}")
    return tuple(map(float, each)) if isinstance(value, list | tuple) else float(value)


GroupFactors = Annotated[float | tuple[float, ...], BeforeValidator(parsed_rates)]
Phases = Annotated[tuple[TrainPhase, ...], Strict(False)]


def last_groups(train: str) -> int | None:
    """How many groups of layers, from the head backwards, learn; None: all."""
    last = _LAST.fullmatch(train)
    return int(last[1]) if last else 1 if train == HEAD else None


def total_epochs(phases: Any) -> int | None:
    """Sum of the epochs of what stands under ``phases`` in a file or a section; None where it cannot be told."""
    if not isinstance(phases, Sequence) or isinstance(phases, str):
        return None
    each = [one.get("epochs") if isinstance(one, Mapping) else getattr(one, "epochs", None) for one in phases]
    whole = [epochs for epochs in each if isinstance(epochs, int) and not isinstance(epochs, bool) and epochs > 0]
    return sum(whole) if each and len(whole) == len(each) else None


def fine_tuning_problems(model: LearningSection) -> Iterator[str]:
    """A sentence for each key of a model's fine-tuning that does not fit the others."""
    total = total_epochs(model.phases)
    if total is not None and model.epochs != total:
        yield (
            f"epochs: is {model.epochs}, and phases take {total}: leave it out or write {total} "
            "(phases: [] trains without phases)"
        )
    if not model.features.variants:
        return
    if not model.phases or model.phases[0].train != HEAD:
        yield "features: are kept of a frozen backbone: let phases begin with {train: head, …}, or set variants to 0"
        return
    for place, phase in enumerate(model.phases):
        if phase.train != HEAD:
            break
        if (phase.batch_norm or model.batch_norm) == "moving":
            yield (
                f"phases.{place}: statistics of batch normalization would move, and features are computed once: "
                "set batch_norm of the phase or of the model to frozen or fixed"
            )
    for key in ("mixup", "cutmix"):
        if getattr(model, key):
            yield f"{key}: mixes images, and the head learns from kept features: set it or features.variants to 0"
