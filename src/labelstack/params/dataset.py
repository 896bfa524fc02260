"""`dataset`: where the data set's files lie and what they may contain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, Strict, ValidationInfo, field_validator

from labelstack.params.messages import one_of
from labelstack.params.rules import Folder
from labelstack.params.section import Section
from labelstack.support.catalogue import Catalogue

_MAX_LABELS = 100_000
# Which file reads and writes which form of data set; what it offers: formats/format.py.
FORMATS = Catalogue("labelstack.formats", {"imaterialist2018": "labelstack.formats.imaterialist2018"})
LabelId = Annotated[int, Field(ge=0, le=2**31 - 1)]


class DatasetSection(Section):
    """Where the competition files lie and what they may contain."""

    format: str = "imaterialist2018"
    root: Folder = "data/sample"
    label_ids: Annotated[tuple[LabelId, LabelId], Strict(False)] | None = None
    answers: str | None = None
    audit: float = Field(0, ge=0, le=0.5)

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        return one_of(value, FORMATS, "format")

    @field_validator("label_ids")
    @classmethod
    def _ordered(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value and value[0] > value[1]:
            raise ValueError(f"must be [first, last] with first ≤ last, not {list(value)}")
        if value and value[1] - value[0] >= _MAX_LABELS:
            raise ValueError(
                f"declares {value[1] - value[0] + 1:,} labels, more than {_MAX_LABELS:,}: every one is a column "
                "of all tables; null takes those of labels.csv, or those that occur"
            )
        return value

    @field_validator("answers")
    @classmethod
    def _below_root(cls, value: str | None, info: ValidationInfo) -> str | None:
        root = info.data.get("root")
        if value is not None and root is not None and Path(root) not in Path(os.path.normpath(value)).parents:
            raise ValueError(f"must lie below dataset.root ({root}), so that a change in it is seen; not {value!r}")
        return value
