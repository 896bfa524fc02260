"""`dataset`: where the data set's files lie and what they may contain."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict, ValidationInfo, field_validator

from labelstack.params.messages import one_of
from labelstack.params.rules import Folder, Line, folder
from labelstack.params.section import Section
from labelstack.params.task import FASHIONAI, Task
from labelstack.support.catalogue import Catalogue

MAX_LABELS = 100_000
# Which file reads and writes which form of data set; what it offers: formats/format.py.
FORMATS = Catalogue(
    "labelstack.formats",
    {
        "imaterialist2018": "labelstack.formats.imaterialist2018",
        "imaterialist2019": "labelstack.formats.imaterialist2019:FORMAT",
        "fashionai2018": "labelstack.formats.fashionai2018:FORMAT",
        "imet2019": "labelstack.formats.imet2019:FORMAT",
        "table": "labelstack.formats.table:FORMAT",
    },
)
TABLE = "table"
IMET = "imet2019"
INSTANCES = "imaterialist2019"
ROWS, PHOTOS = "data", "data/photos"  # where what is learned from lies, and photos where that is their regions
JSON = "json"  # as a separator: every cell is a JSON list of texts
_MAX_SIGNS = 8
LabelId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Share = Annotated[float, Field(gt=0, le=0.5)]


def _below_root(value: str) -> str:
    parts = PurePosixPath(value).parts
    if not parts or value.startswith("/") or ".." in parts or "\\" in value:
        raise ValueError(f"must be a path below dataset.root, with / between its parts, not {value!r}")
    return value


def _signs(value: str) -> str:
    if value != JSON and (not 0 < len(value) <= _MAX_SIGNS or re.search(r"[^\W_]|[\"\r\n]", value)):
        raise ValueError(
            f'must be 1 to {_MAX_SIGNS} signs such as ";", "|" or " ", none of them a letter, a digit, a quotation '
            f"mark or a line end; or json, or null; not {value!r}"
        )
    return value


def _ending(value: str) -> str:
    if "/" in value or "\\" in value or value != value.strip():
        raise ValueError(f"must be the end of a file's name such as .jpg, not {value!r}")
    return value


Inside = Annotated[Line, AfterValidator(folder), AfterValidator(_below_root)]


class TableSection(Section):
    """Format `table`: which files and columns say what of an image. All paths lie below ``dataset.root``."""

    validation_file: Inside | None = None
    test_file: Inside | None = None
    file: Inside | None = "labels.csv"
    images: Inside | None = None
    suffix: Annotated[str, AfterValidator(_ending)] = ""
    image: Line = "image"
    labels: Line = "labels"
    separator: Annotated[str, AfterValidator(_signs)] | None = ";"
    split: Line | None = None
    test: Share = 0.15
    validation: Share = 0.2

    @field_validator("file")
    @classmethod
    def _alone(cls, value: str | None, info: ValidationInfo) -> str | None:
        others = [key for key in ("validation_file", "test_file") if info.data.get(key) is not None]
        if value is None and others:
            raise ValueError(f"must name the file of the train rows, since {' and '.join(others)} stand(s) there")
        return value

    @field_validator("split")
    @classmethod
    def _one_way(cls, value: str | None, info: ValidationInfo) -> str | None:
        others = [key for key in ("validation_file", "test_file") if info.data.get(key) is not None]
        if value is not None and others:
            raise ValueError(f"a column or files say what is in which split, not both: {' and '.join(others)}, or this")
        return value

    @field_validator("split")
    @classmethod
    def _of_a_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("file", "") is None:
            raise ValueError(f"names a column, and file: null has none: must be null, not {value!r}")
        return value


class FashionaiSection(Section):
    """Format `fashionai2018`: its files below ``dataset.root``.

    Images are looked for in the folder of the file that names them, or above it where that is Annotations or Tests.
    """

    labels: list[Inside] = Field(["train/Annotations/label.csv"], min_length=1)
    question: Inside = "test/Tests/question.csv"

    @field_validator("labels")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if twice := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"must name each file once, and {', '.join(twice)} stands there again")
        return value


class InstancesSection(Section):
    """Format `imaterialist2019`: its files below ``dataset.root``, and what of instances is a photo's label."""

    labels: Literal["categories", "attributes", "both"] = "both"
    train: Inside = "train.csv"
    test: Inside = "sample_submission.csv"
    train_photos: Inside = "train"
    test_photos: Inside = "test"
    outside: Literal["refuse", "clip"] = "refuse"
    on_top: Literal["last", "smallest"] = "last"


class DatasetSection(Section):
    """Where the data set's files lie and what they may contain."""

    format: str = "imaterialist2018"
    root: Folder = "data/sample"
    into: Literal["data", "data/photos"] = "data"
    task: Task = "multi_label"
    label_ids: Annotated[tuple[LabelId, LabelId], Strict(False)] | None = None
    answers: str | None = None
    validation: float = Field(0, ge=0, le=0.5)
    audit: float = Field(0, ge=0, le=0.5)
    corrections: Inside | None = None
    table: TableSection = TableSection()
    fashionai: FashionaiSection = FashionaiSection()
    instances: InstancesSection = InstancesSection()

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        return one_of(value, FORMATS, "format")

    @field_validator("validation")
    @classmethod
    def _of_the_table(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("format") == TABLE:
            raise ValueError(f"must be 0: of the format table it is table.validation that draws a share, not {value:g}")
        return value

    @field_validator("label_ids")
    @classmethod
    def _ordered(cls, value: tuple[int, int] | None, info: ValidationInfo) -> tuple[int, int] | None:
        if value and info.data.get("format") == TABLE:
            raise ValueError("must be null: labels of the format table are names, and those that occur are the labels")
        if value and info.data.get("format") == IMET:
            raise ValueError("must be null: the labels of the format imet2019 are those of labels.csv")
        if value and info.data.get("format") == INSTANCES:
            raise ValueError("must be null: the labels of imaterialist2019 are its categories and attributes")
        if value and info.data.get("format") == FASHIONAI:
            raise ValueError("must be null: the labels of the format fashionai2018 are its 54 values")
        if value and value[0] > value[1]:
            raise ValueError(f"must be [first, last] with first ≤ last, not {list(value)}")
        if value and value[1] - value[0] >= MAX_LABELS:
            raise ValueError(
                f"declares {value[1] - value[0] + 1:,} labels, more than {MAX_LABELS:,}: every one is a column "
                "of all tables; null takes those of labels.csv, or those that occur"
            )
        return value

    @field_validator("answers")
    @classmethod
    def _in_place(cls, value: str | None, info: ValidationInfo) -> str | None:
        root = info.data.get("root")
        if value is not None and info.data.get("format") == TABLE:
            raise ValueError("must be null: in the format table the labels of test images, if known, are in their rows")
        if value is not None and root is not None and Path(root) not in Path(os.path.normpath(value)).parents:
            raise ValueError(f"must lie below dataset.root ({root}), so that a change in it is seen; not {value!r}")
        return value
