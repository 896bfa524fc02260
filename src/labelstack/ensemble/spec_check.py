"""What the JSON files of an ensemble's folder must be like; they come out of a registry."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labelstack.params.images import Damaged
from labelstack.params.models import Resize
from labelstack.params.prediction_views import Combine
from labelstack.params.region_view import Mask, Sees
from labelstack.params.section import Section
from labelstack.params.task import MULTI, Task
from labelstack.support.dtypes import Dtype

Side = Annotated[int, Field(ge=1, le=100_000)]
_SHOWN = 20
Views = list[str | dict[str, Any]]


class _Open(BaseModel):
    """Unknown keys are none of our business; values are those of JSON's types that are expected."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, strict=True)


class SettingsForm(Section):
    """``settings`` in ensemble.json."""

    tta: Views = Field(min_length=1)
    batch_size: int = Field(64, ge=1, le=8192)
    store_size: int = Field(256, ge=1, le=4096)
    jpeg_quality: int = Field(90, ge=1, le=100)
    damaged: Damaged = "refuse"
    fetch: dict[str, Any] = Field(default_factory=dict)
    task: Task = MULTI
    combine: Combine = "probability"
    dtype: Dtype = "float32"


class RegionViewForm(Section):
    """What a network is given of a region beside its pixels."""

    mask: Mask = "none"
    sees: Sees = "all"


class ViewForm(Section):
    """How a network sees an image."""

    image_size: Side
    resize: Resize = "stretch"
    tta: Views = Field(default_factory=list)
    region: RegionViewForm = RegionViewForm()


class NetworksForm(Section):
    """A base model of several networks."""

    networks: dict[str, ViewForm] = Field(min_length=1)


class HeatForm(Section):
    """Where a model looks in a new image."""

    of: str
    threshold: float = Field(gt=0, lt=1)
    margin: float = Field(0, ge=0, le=1)


class DescriptionForm(_Open):
    """ensemble.json."""

    models: dict[str, ViewForm | NetworksForm] = Field(min_length=1)
    stackers: list[str]
    settings: SettingsForm
    second_round: list[str] = []
    heatmaps: dict[str, HeatForm] = {}
    students: list[str] = []


class GroupsForm(_Open):
    """``groups`` in blend.json."""

    group: list[str] = Field(min_length=1)
    of_group: dict[str, list[Annotated[float, Field(ge=0)]]]
    temperature: dict[str, list[Annotated[float, Field(gt=0)]]]


class BlendForm(_Open):
    """blend.json."""

    weights: dict[str, Annotated[float, Field(ge=0)]]
    groups: GroupsForm | None = None


class RuleForm(_Open):
    """thresholds.json."""

    thresholds: dict[str, float] | None
    decision: dict[str, Any]


class LabelForm(_Open):
    """An entry of labels.json."""

    label_id: int
    name: str


class LabelsForm(_Open):
    """labels.json, under a key."""

    labels: list[LabelForm] = Field(min_length=1)


def form_problems(description: Any, labels: Any, blend: Any, rule: Any) -> list[str]:
    """Sentences about what the four files hold and must not; none when all is well."""
    problems: list[str] = []
    for file, content, form in (
        ("ensemble.json", description, DescriptionForm),
        ("labels.json", {"labels": labels}, LabelsForm),
        ("blend.json", blend, BlendForm),
        ("thresholds.json", rule, RuleForm),
    ):
        try:
            form.model_validate(content)
        except ValidationError as error:
            problems += [f"{file}: {_sentence(one['loc'], one['msg'])}" for one in error.errors()[:_SHOWN]]
    return problems


def _sentence(place: tuple[int | str, ...], message: str) -> str:
    key = ".".join(str(part) for part in place) or "the whole"
    return f"{key if key.isprintable() else ascii(key)}: {message[0].lower()}{message[1:]}"
