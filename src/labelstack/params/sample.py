"""`sample`: the generated data set, garments or museum objects, in the form that ``dataset.format`` names."""

from __future__ import annotations

from pydantic import Field

from labelstack.params.section import Section


class SampleSection(Section):
    """Size and difficulty of the generated data set: garments, or museum objects with ``imet2019``."""

    n_train: int = Field(1600, ge=20, le=1_000_000)
    n_validation: int = Field(500, ge=20, le=1_000_000)
    n_test: int = Field(500, ge=10, le=1_000_000)
    image_size: int = Field(96, ge=32, le=1024)
    label_noise: float = Field(0.03, ge=0, le=0.5)
    missing_labels: float = Field(0.2, ge=0, le=0.9)
    mixed_up_labels: float = Field(0.1, ge=0, le=0.5)
