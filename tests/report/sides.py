"""Made-up sides of a comparison: few images, few labels, numbers that can be checked by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.report.comparison import Side, SideBySide, side_by_side
from labelstack.scoring.metrics import AVERAGES, f_beta
from labelstack.scoring.scored import Scored

IMAGES = np.array([11, 7, 5, 3])
LABELS = np.array([1, 2, 9])
TRUTH = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]], bool)
ATTACK = "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>[red]\x1b[2J\x00"


def scored(*answers: list[int], name: str = "blend") -> Scored:
    """One model's label sets on the four images."""
    return Scored(IMAGES, LABELS, TRUTH, {name: np.array(answers, bool)})


def f_scores(truth: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> dict[str, float]:
    return {f"{average}_f1": f_beta(truth, chosen, average=average) for average in AVERAGES}


def side(name: str, answers: NDArray[Any] | Scored | None = None, **changes: Any) -> Side:
    """A side with the blend alone, its scores computed from its answers."""
    sets = answers if isinstance(answers, Scored) or answers is None else scored(*answers.tolist())
    row: dict[str, Any] = {"kind": "blend"}
    if sets is not None:
        figures = f_scores(sets.truth, sets.chosen["blend"])
        row |= {f"{key}_cross_fitted": value for key, value in figures.items()}
    made = Side(name, "blend", {"blend": row}, scored=sets, labels={1: "coat", 2: "shoe", 9: "hat"})
    return dataclasses.replace(made, **changes)


def large(name: str, seed: int, *, names: list[str] | None = None, **changes: Any) -> Side:
    """A side on 300 images and 40 labels, with members, params and an origin."""
    truth = np.random.default_rng(0).random((300, 40)) < 0.15
    random = np.random.default_rng(seed)
    sets = {
        row: np.where(random.random(truth.shape) < wrong, ~truth, truth)
        for row, wrong in (("wide", 0.2), ("cnn", 0.14), ("blend", 0.1 + seed / 60))
    }
    kinds = {"wide": "base model", "cnn": "stacker", "blend": "blend"}
    rows: dict[str, dict[str, Any]] = {}
    for row, chosen in sets.items():
        figures = f_scores(truth, chosen)
        rows[row] = {"kind": kinds[row], "test_samples_f1": figures["samples_f1"] - 0.01}
        rows[row] |= {f"{key}_cross_fitted": value for key, value in figures.items()}
    labels = dict(enumerate(names or [f"label {i}" for i in range(40)]))
    made = Side(
        name, "blend", rows, {"seed": str(seed), "blend.method": "log_loss"},
        origin=[
            ("git commit", "99c26e471d29", None),
            ("MLflow run", "blend/ensemble 7ab5c38a6be04b3ab137f1f2e3fa74cb", f"http://127.0.0.1:5000/#/runs/{seed}"),
        ],
        scored=Scored(np.arange(300), np.arange(40), truth, sets), labels=labels,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def made_up() -> SideBySide:
    """Three sides: a version, an experiment, and a run on other data."""
    other = large("run:blend/ensemble", 3, whole=False)
    assert other.scored is not None
    elsewhere = dataclasses.replace(other.scored, image_id=np.arange(1000, 1300))
    sides = [large("@champion", 1), large("equal-weights", 2), dataclasses.replace(other, scored=elsewhere)]
    return side_by_side(sides, notes=["one name given"])


def hostile() -> SideBySide:
    """Every name tries to break out of its place."""
    sides = [
        large(f"{ATTACK} {seed}", seed, names=[ATTACK] * 40, params={ATTACK: f"{seed} {ATTACK}"},
              origin=[(ATTACK, ATTACK, "javascript:document.title='owned'")], notes=[ATTACK])
        for seed in (1, 2)
    ]  # fmt: skip
    return side_by_side(sides, notes=[ATTACK])
