"""The whole of params.yaml: read, checked, flattened and digested."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from labelstack.params.augment import AugmentSection
from labelstack.params.base_models import ON_ALL, BaseModels, base_models_problem
from labelstack.params.dataset import DatasetSection
from labelstack.params.engine import EngineSection
from labelstack.params.images import ImagesSection
from labelstack.params.kinds import parsed_by_kind
from labelstack.params.messages import dotted, explain, name_problems, raw_name_problems, unknown
from labelstack.params.models import ModelSection
from labelstack.params.notify import NotifySection
from labelstack.params.prediction import PredictionSection
from labelstack.params.prediction_views import OneView, raw_view_problems, single_views, view_problems
from labelstack.params.region_rows import RegionRowsSection, region_row_problems
from labelstack.params.region_view import region_view_problems
from labelstack.params.regions import RegionsSection, region_problems
from labelstack.params.sample import SampleSection
from labelstack.params.second_level_file import SecondLevel
from labelstack.params.second_round import SECOND_ROUND, SecondRoundSection, heatmap_problems, second_section_of
from labelstack.params.section import Seed
from labelstack.params.segmenters import SegmenterParams
from labelstack.params.submission import SubmissionSection
from labelstack.params.task import (
    format_problems,
    group_problems,
    model_group_problems,
    stated_losses,
    stated_soft_labels,
    task_problems,
    with_usual,
)
from labelstack.params.tracking import TrackingSection
from labelstack.params.training import TrainingSection
from labelstack.support.credentials import cleaned, credential_problems
from labelstack.support.errors import InputProblems, UserError


class Params(SecondLevel):
    """The whole of params.yaml."""

    seed: Seed = 2018
    dataset: DatasetSection = DatasetSection()
    sample: SampleSection = SampleSection()
    images: ImagesSection = ImagesSection()
    segmenters: dict[str, SegmenterParams] = {}
    regions: dict[str, RegionsSection] = {}
    region_rows: dict[str, RegionRowsSection] = {}
    augment: AugmentSection = AugmentSection()
    training: TrainingSection = TrainingSection()
    base_models: BaseModels = ON_ALL
    models: dict[str, ModelSection] = Field(min_length=1)
    second_round: dict[str, SerializeAsAny[SecondRoundSection]] = {}
    prediction: PredictionSection = PredictionSection()
    submission: SubmissionSection = SubmissionSection()
    tracking: TrackingSection = TrackingSection()
    engine: EngineSection = EngineSection()
    notify: NotifySection = NotifySection()

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, content: Any) -> Any:
        return with_usual(content)

    @field_validator("second_round", mode="before")
    @classmethod
    def _second_by_kind(cls, value: Any) -> Any:
        return parsed_by_kind(value, "second_round", "second-round kind", SECOND_ROUND, second_section_of)

    @model_validator(mode="after")
    def _names(self) -> Params:
        second = {name: section.after for name, section in self.second_round.items()}
        problems = name_problems(self.models, second, self.stackers, self.blend.members)
        problems += [*self._fold_problems(), *self._override_problems(), *self._view_problems()]
        soft_labels = stated_soft_labels(self.models, self.second_round)
        problems += format_problems(self.dataset.format, self.dataset.task, soft_labels)
        problems += group_problems(self.dataset.format, self.metric, self.thresholds)
        problems += model_group_problems(self.dataset.format, self.models)
        problems += task_problems(self.dataset.task, self.thresholds, stated_losses(self.models, self.second_round))
        problems += region_problems(
            self.segmenters, self.regions, self.dataset.format, by_fold=self.by_fold, held_out=self.stops_early
        )
        problems += region_row_problems(
            self.region_rows, self.dataset, self.folds, by_fold=self.by_fold, found=bool(self.regions)
        )
        problems += region_view_problems(self.models, self.region_rows)
        if not set(self.blend_members()) - set(self.flattered):
            problems.append(
                "blend.members: needs one that is no student, since audit rows alone give a student a weight"
            )
        for name in self.tracking.alone:
            if name not in self.network_models:
                problems.append(f"tracking.alone: {unknown(name, self.network_models, 'base or second-round model')}")
        problems += [] if problems else self._second_problems()
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _fold_problems(self) -> Iterator[str]:
        if told := base_models_problem(self.base_models, self.folds.k):
            yield told
        if self.training.monitor == "fold" and not self.by_fold:
            yield "training.monitor: fold is for networks that have one; with base_models: [all] use holdout"
        for name, model in self.models.items():
            schedules = [model.schedule, *(phase.schedule for phase in model.phases if phase.schedule)]
            if any(schedule.reload for schedule in schedules) and not self.stops_early:
                yield f"{dotted(('models', name))}: schedule.reload needs held-out rows: set training.holdout above 0"
        if self.folds.method == "rarest_first" and self.folds.group_by is not None and self.folds.column is None:
            yield "folds.method: rarest_first deals single rows; with folds.group_by use iterative"
        if self.folds.rare and (self.folds.method != "iterative" or self.folds.column is not None):
            yield "folds.rare: is for folds that are dealt by iterative stratification: set it to 0"

    def _override_problems(self) -> Iterator[str]:
        for name, model in self.models.items():
            for fold in model.by_fold:
                place = ("models", name, "by_fold", fold)
                if fold not in self.networks:
                    why = f"folds are 0 … {self.folds.k - 1}" if self.by_fold else "base_models is [all]"
                    yield f"{dotted(place)}: there is no network of this fold ({why})"
                if "by_fold" in model.by_fold[fold]:
                    yield f"{dotted(place)}.by_fold: no such key here"
                    continue
                try:
                    model.of_fold(fold)
                except ValidationError as error:
                    yield from (f"{dotted(place)}.{problem}" for problem in explain(error, ModelSection))

    def _view_problems(self) -> Iterator[str]:
        lists: list[tuple[tuple[str, ...], list[str] | None]]
        lists = [(("models", name, "tta"), model.tta) for name, model in self.models.items()]
        lists += [(("second_round", name, "tta"), section.tta) for name, section in self.second_round.items()]
        for name, model in self.models.items():
            for fold, own in model.by_fold.items():
                named = own.get("tta")  # what is no list of texts, of_fold tells
                texts = isinstance(named, list) and all(isinstance(one, str) for one in named)
                lists.append((("models", name, "by_fold", fold, "tta"), named if texts else None))
        for place, names in lists:
            yield from view_problems(names or [], self.prediction.views, place)

    def _second_problems(self) -> Iterator[str]:
        for name, section in self.second_round.items():
            if section.needs_folds and not self.by_fold:
                yield (
                    f"{dotted(('second_round', name))}: kind {section.kind} learns from what networks of folds say of "
                    "rows that they did not learn from: set base_models to the folds' numbers"
                )
            told: list[str] = []
            for fold in self.networks:
                try:
                    self.network(name, fold)
                except ValidationError as error:
                    told += explain(error, ModelSection)
            told += heatmap_problems(self.second_round[name], self.models, self.dataset.format)
            yield from (f"{dotted(('second_round', name))}.{problem}" for problem in dict.fromkeys(told))

    @property
    def by_fold(self) -> bool:
        """Whether a base model is one network for each fold of train, and not one on all of it."""
        return self.base_models != ON_ALL

    @property
    def networks(self) -> list[str]:
        """What a base model has networks for: ``["all"]``, or the folds' numbers as texts."""
        return [str(fold) for fold in self.base_models]

    @property
    def stops_early(self) -> bool:
        """Whether networks have rows that say when to stop."""
        return self.training.monitor == "fold" or self.training.holdout > 0

    def network(self, name: str, fold: str) -> ModelSection:
        """How the network of one fold of a base model or second-round model is made; ``by_fold`` is put in."""
        if name in self.second_round:
            section = self.second_round[name]
            return section.network([self.models[first].of_fold(fold) for first in section.after])
        return self.models[name].of_fold(fold)

    def views_of(self, name: str, fold: str) -> dict[str, OneView]:
        """What the network of one fold is shown of each image, in order: its own ``tta``, or that of ``prediction``."""
        return single_views(self.view_names(name, fold), self.prediction.views, self.seed)

    def view_names(self, name: str, fold: str) -> list[str]:
        """The names behind ``views_of``, as they stand in params.yaml."""
        return self.network(name, fold).tta or self.prediction.tta

    def groups_of(self, name: str) -> list[str]:
        """The label groups that a base or second-round model knows; none: all, as any other member does."""
        while name in self.second_round:
            name = self.second_round[name].after[0]
        return self.models[name].groups if name in self.models else []

    def policy(self, model: ModelSection) -> AugmentSection | None:
        """The augmentation of one base model: the shared policy, its own, or none."""
        if isinstance(model.augment, AugmentSection):
            return model.augment
        return self.augment if model.augment else None

    @property
    def regions_section(self) -> RegionsSection | None:
        """How regions come of class maps; None where there are no segmenters."""
        return next(iter(self.regions.values()), None)

    @property
    def region_segmenters(self) -> list[str]:
        """Segmenters whose mean the regions are found by."""
        section = self.regions_section
        return [] if section is None else section.segmenters or list(self.segmenters)

    @property
    def rows_of_regions(self) -> RegionRowsSection | None:
        """How regions of photos become rows; None where photos are the rows."""
        return next(iter(self.region_rows.values()), None)

    @property
    def network_models(self) -> list[str]:
        """Members that are networks, in order: base models, then second-round models."""
        return [*self.models, *self.second_round]

    @property
    def flattered(self) -> list[str]:
        """Second-round models whose out-of-fold scores promise too much."""
        return [name for name, section in self.second_round.items() if section.flattered]

    @property
    def cube_columns(self) -> list[str]:
        """Whose predictions stackers learn from, in order: base models, then second-round models but flattered ones."""
        return [name for name in self.network_models if name not in self.flattered]

    def blend_members(self) -> list[str]:
        """Members of the blend in order: as named by ``blend.members``, or every stacker and every model."""
        return list(self.blend.members) or [*self.stackers, *self.network_models]


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml; raise ``InputProblems`` with every problem in it at once.

    Credentials in a URI are a problem too, and no message shows them.
    """
    from labelstack.support.yaml_file import read_yaml  # a kernel has sections, and neither file nor reader

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
        problems += [problem for problem in explain(error, Params) if problem.partition(":")[0] not in told]
        # Pydantic compares names only when all sections are valid.
        raw = [*raw_name_problems(content), *raw_view_problems(content)]
        problems += [problem for problem in raw if problem not in problems]
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
