"""What a version knows of photos whose regions are what its ensemble labels: regions.json in the ensemble's folder.

A version without this file labels whole images.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from labelstack.params.messages import explain
from labelstack.params.region_rows import Context
from labelstack.params.regions import RegionsSection
from labelstack.params.section import Section
from labelstack.scoring.attribute_rule import SETS, Rule, Written
from labelstack.support.errors import InputProblems
from labelstack.support.storage import read_json

REGIONS = "regions.json"
SEGMENTERS = "segmenters"
SEGMENTER_FILES = ("model.keras", "segmenter.json")
AT_ONCE = 4  # photos, as the stage `regions` has it: the last bits of a network may depend on it
_Id = Annotated[int, Field(ge=0, le=2**31 - 1)]
_Part = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=200)]  # of a path


class CategoryForm(Section):
    """What regions are: the id as in the data set's files, and its name."""

    id: _Id
    name: str


class WrittenForm(Section):
    """Which attributes a category is given, and how likely they must be, see ``scoring.attribute_rule``."""

    set: Literal["decided", "likeliest"]
    least: float = Field(ge=-1, le=1)  # -1 as 0: always


class RegionForm(Section):
    """The content of regions.json.

    Attributes
    ----------
    segmenters : folds of each; a photo's class map is the mean of all
    found : how class maps become regions, as ``regions`` in params.yaml; it names no segmenters
    categories : of the classes 0 …; background is the class after the last
    rows : ids of categories whose attributes the ensemble knows
    margin, background, mask, context : how a region is cut out for the ensemble, as in ``region_rows``
    jpeg_quality : of it, as in ``images``
    attributes : by category id, when attributes are written; none of a category that is not there
    """

    segmenters: dict[_Part, list[_Part]] = Field(min_length=1)
    found: RegionsSection
    categories: list[CategoryForm] = Field(min_length=1)
    rows: list[_Id]
    margin: float = Field(ge=0, le=10)
    background: Literal["keep", "grey"]
    mask: Literal["none", "stored"] = "none"
    context: Context = 0.0
    jpeg_quality: int = Field(ge=1, le=100)
    attributes: dict[str, WrittenForm] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> RegionForm:
        there = [one.id for one in self.categories]
        problems = [] if len(set(there)) == len(there) else ["categories: an id stands there twice"]
        strange = [str(one) for one in self.rows if one not in there]
        strange += [one for one in self.attributes if not (one.isdecimal() and int(one) in there)]
        if strange:
            problems.append(f"there is no category {', '.join(strange)}")
        problems += [f"segmenters.{name}: names no fold" for name, folds in self.segmenters.items() if not folds]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def category_ids(self) -> NDArray[np.int64]:
        """The id of each class, int64 [classes − 1]."""
        return np.array([one.id for one in self.categories], np.int64)

    @property
    def names(self) -> dict[int, str]:
        """What categories are called, by id."""
        return {one.id: one.name for one in self.categories}

    @property
    def rule(self) -> Rule:
        """When attributes are written."""
        return {int(one): Written(SETS.index(how.set), how.least) for one, how in self.attributes.items()}

    @property
    def networks(self) -> list[tuple[str, str]]:
        """Segmenter and fold of each network, in the order in which the stage `regions` adds them up: by fold."""
        folds = dict.fromkeys(fold for own in self.segmenters.values() for fold in own)
        return [(name, fold) for fold in folds for name, own in self.segmenters.items() if fold in own]


def segmenter_folder(name: str, fold: str) -> str:
    """Where a segmenter's network lies in an ensemble's folder."""
    return f"{SEGMENTERS}/{name}/{fold}"


def read_region_form(folder: Path) -> RegionForm | None:
    """What regions.json of an ensemble's folder says; None where there is none; raise ``InputProblems``."""
    file = folder / REGIONS
    if not file.exists():
        return None
    try:
        form = RegionForm.model_validate(read_json(file))
    except ValidationError as error:
        raise InputProblems(str(folder), [f"{REGIONS}: {one}" for one in explain(error, RegionForm)]) from None
    if missing := [one for one in _files(form) if not (folder / one).is_file()]:
        raise InputProblems(str(folder), [f"{one}: not found" for one in missing])
    return form


def _files(form: RegionForm) -> Iterable[str]:
    return (f"{segmenter_folder(*one)}/{file}" for one in form.networks for file in SEGMENTER_FILES)
