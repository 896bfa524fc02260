"""Smaller blends of an ensemble, which a kernel falls back on where time is short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labelstack.ensemble.folder import Spec
from labelstack.kernel.time_budget import Net, Step
from labelstack.support.errors import UserError
from labelstack.support.storage import read_json, write_json

STEPS = "steps.json"


@dataclass(frozen=True)
class Smaller:
    """What there is to fall back on.

    Attributes
    ----------
    specs : ensembles from large to small, each of networks with their first view alone
    scores : of each, cross-fitted, by the metric
    whole : that of the whole ensemble
    """

    specs: Sequence[Spec]
    scores: Sequence[float]
    whole: float
    metric: str


def first_views(spec: Spec) -> Spec:
    """The ensemble whose networks are shown the first of their test-time views alone."""
    views = {
        name: {fold: replace(view, tta=spec.tta(view)[:1]) for fold, view in networks.items()}
        for name, networks in spec.views.items()
    }
    return replace(spec, views=views)


def write_smaller(ensemble: Path, metric: str, whole: float, steps: Sequence[dict[str, Any]]) -> None:
    """Write steps.json: ``weights`` (and ``groups``), ``decision`` and ``score`` of each smaller blend."""
    write_json(ensemble / STEPS, {"metric": metric, "whole": whole, "steps": list(steps)})


def read_smaller(ensemble: Path, spec: Spec) -> Smaller:
    """What ``write_smaller`` wrote of an ensemble; raise ``UserError`` where a kernel was made without."""
    if not (ensemble / STEPS).exists():
        raise UserError(
            "--hours: this kernel has no smaller blends to fall back on. Run it without, or make one that has, in the "
            "workspace of the ensemble: labelstack kernel --smaller"
        )
    content, first = read_json(ensemble / STEPS), first_views(spec)
    specs = [
        replace(first, weights=step["weights"], groups=step.get("groups"), decision=step["decision"])
        for step in content["steps"]
    ]
    scores = [float(step["score"]) for step in content["steps"]]
    return Smaller(specs, scores, float(content["whole"]), str(content["metric"]))


def steps_of(specs: Sequence[Spec]) -> list[Step]:
    """The whole ensemble, then its smaller blends, as the limit of time takes them."""
    return [Step(_networks_of(spec), place > 0) for place, spec in enumerate(specs)]


def _networks_of(spec: Spec) -> list[Net]:
    return [(name, fold) for name in spec.needed_models for fold in spec.views[name]]
