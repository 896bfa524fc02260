"""params.yaml as typed models: the only place that knows its keys, defaults and bounds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from labelstack.credentials import cleaned, credential_problems
from labelstack.errors import InputProblems, UserError
from labelstack.params_engine import Engine
from labelstack.params_images import Augment, Images
from labelstack.params_messages import explain, name_problems, one_of, raw_name_problems
from labelstack.params_places import Dataset, Submission
from labelstack.params_rules import Folder
from labelstack.params_second_level import SecondLevel
from labelstack.params_section import Section, Seed
from labelstack.params_tracking import Tracking
from labelstack.yaml_file import read_yaml

# Name -> smallest image side in pixels that the architecture accepts (keras.applications' own minima;
# for our small ones: what is left after their strides).
BACKBONE_MIN_SIZE: dict[str, int] = {
    "densenet201": 32,
    "inception_v3": 75,
    "inception_resnet_v2": 75,
    "resnet50": 32,
    "nasnet": 32,
    "xception": 71,
    "resnet152_v2": 32,
    "mobilenet": 32,
    "mobilenet_v2": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "small_cnn": 16,
    "small_resnet": 16,
    "descriptors": 32,
    "pixels": 16,
    "silhouette": 32,
    "silhouette_pixels": 32,
}
LOSSES = ("bce", "balanced_bce", "focal")

Resize = Literal["stretch", "letterbox"]


class Sample(Section):
    """Size and difficulty of the generated garment data set."""

    n_train: int = Field(1600, ge=20, le=1_000_000)
    n_validation: int = Field(500, ge=20, le=1_000_000)
    n_test: int = Field(500, ge=10, le=1_000_000)
    image_size: int = Field(96, ge=32, le=1024)
    label_noise: float = Field(0.03, ge=0, le=0.5)


class Schedule(Section):
    """Learning rate over epochs."""

    kind: Literal["constant", "cosine", "warm_restarts", "plateau"] = "cosine"
    warmup_epochs: int = Field(0, ge=0, le=1000)
    restart_epochs: int = Field(10, ge=1, le=1000)
    minimum: float = Field(0.01, ge=0, le=1)
    factor: float = Field(0.5, gt=0, lt=1)
    patience: int = Field(3, ge=1, le=1000)


class Training(Section):
    """What all base models share."""

    holdout: float = Field(0.1, ge=0, le=0.5)
    holdout_max: int = Field(5000, ge=1)
    patience: int | None = Field(5, ge=1, le=1000)
    mixed_precision: bool = False
    multi_gpu: bool = False
    workers: int | None = Field(None, ge=0, le=256)
    shuffle_shards: int = Field(8, ge=1, le=1000)


class Head(Section):
    """Pooling and dense layers on top of a backbone; the default is the flagship's head."""

    pooling: Literal["max", "average", "flatten"] = "max"
    units: list[Annotated[int, Field(ge=1, le=65536)]] = [2048, 2048]
    dropout: float = Field(0.5, ge=0, lt=1)


class Model(Section):
    """One base model."""

    backbone: str
    weights: Folder = "none"
    image_size: int = Field(64, ge=16, le=2048, validate_default=True)
    resize: Resize = "stretch"
    options: dict[str, float | int | str | bool | list[int]] = {}
    head: Head = Head()
    batch_size: int = Field(32, ge=1, le=8192)
    epochs: int = Field(10, ge=1, le=10_000)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0, le=10)
    weight_decay: float = Field(0, ge=0, le=1)
    label_smoothing: float = Field(0, ge=0, lt=0.5)
    mixup: float = Field(0, ge=0, le=10)
    ema: float | None = Field(None, gt=0, lt=1)
    schedule: Schedule = Schedule()
    loss: str = "bce"
    augment: bool | Augment = True
    seed: Seed = 0

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, value: str) -> str:
        return one_of(value, BACKBONE_MIN_SIZE, "backbone")

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, value: str) -> str:
        return one_of(value, LOSSES, "loss")

    @field_validator("image_size")
    @classmethod
    def _large_enough(cls, value: int, info: ValidationInfo) -> int:
        backbone = info.data.get("backbone", "")
        if value < BACKBONE_MIN_SIZE.get(backbone, 0):
            raise ValueError(
                f"{value} px is below the minimum of {backbone}, which is {BACKBONE_MIN_SIZE[backbone]} px"
            )
        return value

    @field_validator("augment", mode="before")
    @classmethod
    def _own_policy(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return Augment.model_validate(value)
        if not isinstance(value, bool | Augment):
            raise ValueError(f"must be true, false or a section like augment, not {value!r}")
        return value


class Prediction(Section):
    """Inference with base models."""

    tta: list[Literal["identity", "hflip"]] = Field(["identity", "hflip"], min_length=1)
    batch_size: int = Field(64, ge=1, le=8192)


class Params(SecondLevel):
    """The whole of params.yaml."""

    seed: Seed = 2018
    dataset: Dataset = Dataset()
    sample: Sample = Sample()
    images: Images = Images()
    augment: Augment = Augment()
    training: Training = Training()
    models: dict[str, Model] = Field(min_length=1)
    prediction: Prediction = Prediction()
    submission: Submission = Submission()
    tracking: Tracking = Tracking()
    engine: Engine = Engine()

    @model_validator(mode="after")
    def _names(self) -> Params:
        problems = name_problems(self.models, self.stackers, self.blend.members)
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def policy(self, model: Model) -> Augment | None:
        """The augmentation of one base model: the shared policy, its own, or none."""
        if isinstance(model.augment, Augment):
            return model.augment
        return self.augment if model.augment else None

    def blend_members(self) -> list[str]:
        """Members of the blend in order: as named by ``blend.members``, or every stacker and base model."""
        return list(self.blend.members) or [*self.stackers, *self.models]


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml; raise ``InputProblems`` with every problem in it at once.

    Credentials in a URI are a problem too, and no message shows them.
    """
    path = Path(path)
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: not found. Run from the folder that holds dvc.yaml, or copy a file from recipes/ to {path}."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of sections (seed, dataset, models, …)")
    problems = credential_problems(content)
    content = cleaned(content)
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        told = {problem.partition(":")[0] for problem in problems}
        problems += [problem for problem in explain(error) if problem.partition(":")[0] not in told]
        # Pydantic compares names only when all sections are valid.
        problems += [problem for problem in raw_name_problems(content) if problem not in problems]
    if problems:
        raise InputProblems(str(path), problems)
    return params


def flatten(section: BaseModel | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one level of dotted keys, the way MLflow wants params; lists become JSON text."""
    content = section.model_dump(mode="json") if isinstance(section, BaseModel) else section
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value) if isinstance(value, list | dict) else value
    return flat


def digest(content: Any) -> str:
    """First 16 hex digits of the SHA-256 of canonical JSON; equal content gives an equal digest."""
    if isinstance(content, BaseModel):
        content = content.model_dump(mode="json")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=_jsonable)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _jsonable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot digest {type(value).__name__}")
