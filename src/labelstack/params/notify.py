"""`notify`: of which stages a person is told; where to is a secret and stands elsewhere."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from labelstack.params.messages import one_of
from labelstack.params.rules import Line
from labelstack.params.section import Section

EVERY = "all"
STAGES = (
    *("settings", "sample", "ingest", "download", "photo_folds", "segment", "regions", "region_rows"),
    *("split", "views", "train", "predict", "score", "needs", "second", "second_score", "members", "stack"),
    *("blend", "evaluate", "submit", "submit_masks", "register", "report"),
)
URL_VARIABLE = "LABELSTACK_NOTIFY_URL"


def _stages(value: list[str]) -> list[str]:
    for name in value:
        one_of(name, (EVERY, *STAGES), "stage")
    if len(set(value)) < len(value) or (EVERY in value and len(value) > 1):
        raise ValueError(f"must name each stage once, or be [{EVERY}], not {value}")
    return value


Stages = Annotated[list[str], AfterValidator(_stages)]


class NotifySection(Section):
    """Messages about stages, by apprise; no result depends on them."""

    ends: Stages = []
    failures: Stages = []
    file: Line | None = None
    timeout_s: float = Field(10, gt=0, le=120)

    @field_validator("file")
    @classmethod
    def _no_url(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:  # which may be secret, so it is not shown
            raise ValueError(
                "must be the path of a file of mode 600 that holds the URL, and a URL stands here: this file is for "
                f"git, so put the URL into such a file or into {URL_VARIABLE}"
            )
        return value

    @property
    def on(self) -> bool:
        """Whether anybody is told of anything."""
        return bool(self.ends or self.failures)

    def tells_end(self, stage: str) -> bool:
        """Whether somebody is told when this stage has ended."""
        return stage in self.ends or EVERY in self.ends

    def tells_failure(self, stage: str) -> bool:
        """Whether somebody is told when this stage fails or is killed."""
        return stage in self.failures or EVERY in self.failures
