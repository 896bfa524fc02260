"""`submission`: the file for the competition."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, field_validator

from labelstack.params.rules import Folder, Line, inside
from labelstack.params.section import Section

# What is left of the 255 bytes of a name when a file is first written under a temporary one.
_MAX_FILENAME = 200


class SubmissionSection(Section):
    """The file for the competition."""

    directory: Annotated[Folder, AfterValidator(inside)] = "submission"
    filename: Line = "iMaterialist_Challenge_(Fashion)_at_FGVC5_submission.csv"
    missing: Literal["prior", "blank"] = "prior"

    @field_validator("filename")
    @classmethod
    def _plain(cls, value: str) -> str:
        if "/" in value or value in {".", ".."}:
            raise ValueError("must be a file name without folders; the folder is submission.directory")
        if len(value.encode()) > _MAX_FILENAME:
            raise ValueError(f"must be a file name of at most {_MAX_FILENAME} bytes, not of {len(value.encode())}")
        return value
