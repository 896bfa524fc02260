"""`base_models`: what base models have networks for: all of train, or each fold of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

BaseModels = list[Literal["all"] | Annotated[int, Field(ge=0, le=99)]]
ON_ALL: BaseModels = ["all"]


def base_models_problem(given: BaseModels, k: int) -> str:
    """What is wrong with it where there are k folds, in a sentence; empty when nothing is."""
    every = list(range(k))
    if given in (ON_ALL, every):
        return ""
    return (
        f"base_models: must be [all], one network on all of train, or {every}, one for each fold (folds.k is {k}), "
        f"not {given}"
    )
