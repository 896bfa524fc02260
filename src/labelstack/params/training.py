"""`training`: what all base models share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from labelstack.params.section import Section


def _precision(value: Any) -> Any:
    if value == "float16":
        return True  # two names of one thing, so that one does not make the other's networks stale
    if not isinstance(value, bool) and value != "bfloat16":
        raise ValueError(f"must be true or false, float16 (the same as true) or bfloat16, not {value!r}")
    return value


class TrainingSection(Section):
    """What all base models share."""

    holdout: float = Field(0.1, ge=0, le=0.5)
    holdout_max: int = Field(5000, ge=1)
    monitor: Literal["holdout", "fold"] = "holdout"
    patience: int | None = Field(5, ge=1, le=1000)
    mixed_precision: Annotated[bool | Literal["bfloat16"], BeforeValidator(_precision)] = False
    jit_compile: bool = False
    multi_gpu: bool = False
    workers: int | None = Field(None, ge=0, le=256)
    shuffle_shards: int = Field(8, ge=1, le=1000)

    @property
    def deciding(self) -> dict[str, Any]:
        """What the networks depend on; compiling is named where it is on."""
        without = {"workers"} if self.jit_compile else {"workers", "jit_compile"}
        return self.model_dump(mode="json", exclude=without)

    @model_validator(mode="after")
    def _one_device(self) -> TrainingSection:
        if self.jit_compile and self.multi_gpu:
            raise ValueError("jit_compile is for one device: leave out jit_compile or multi_gpu")
        return self
