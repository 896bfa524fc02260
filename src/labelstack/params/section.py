"""What all sections of params.yaml have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys, infinite numbers and values of another type are refused.

    A whole number stands for any number, and nothing else for something else: ``true``, ``"8"`` and ``8.0`` are no
    whole numbers, ``yes`` is neither true nor false.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class KindSection(Section):
    """A section under a name of its own whose ``kind`` says which class it is."""

    kind: str
