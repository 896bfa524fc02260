"""Leaderboard rows out of metrics/evaluation.json, for the report, the terminal and the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labelstack.params import Params
from labelstack.report.content import Comparison, DecisionRow, LeaderboardRow, scores_of
from labelstack.scoring.metric import metric_of
from labelstack.stages.members import THE_BLEND, Member
from labelstack.support import storage
from labelstack.tracking.run_file import read_run_json


def fixed_threshold(params: Params) -> float | None:
    """The threshold that tuned ones are compared with; None where every image gets exactly one label, at none."""
    return None if params.thresholds.exclusive else params.thresholds.fixed


def leaderboard_rows(params: Params, evaluation: dict[str, Any], *, tracker: Any = None) -> list[LeaderboardRow]:
    """One row for every model, stacker and the blend; with links to MLflow runs when a tracker is given."""
    thresholds = fixed_threshold(params) is not None
    weights = storage.read_json(THE_BLEND.learnt)["weights"]
    family = metric_of(params.metric).family
    rows = []
    for name, row in evaluation["scores"].items():
        run = read_run_json(Member(name, row["kind"]).run_file)
        rows.append(
            LeaderboardRow(
                name=name,
                kind=row["kind"],
                fixed=scores_of(row, family, "{}_at_fixed") if thresholds else None,
                cross_fitted=scores_of(row, family, "{}_cross_fitted"),
                in_sample=scores_of(row, family, "{}_in_sample"),
                audit=scores_of(row, family, "audit_{}"),
                test=scores_of(row, family, "test_{}"),
                test_fixed=scores_of(row, family, "test_{}_at_fixed") if thresholds else None,
                weight=weights.get(name),
                run_id=run["run_id"],
                run_url=tracker.url(run["run_id"]) if tracker else None,
                seconds=run["metrics"].get("train_seconds"),
                flattered=bool(row.get("flattered")),
            )
        )
    return rows


def decision_rows(params: Params, evaluation: dict[str, Any]) -> list[DecisionRow]:
    """Every decision strategy on the blend, with the one in use marked; none where there is but one."""
    if params.thresholds.exclusive:
        return []
    chosen = storage.read_json(THE_BLEND.rule)["strategy"]
    family = metric_of(params.metric).decides.family
    return [
        DecisionRow(
            strategy=strategy,
            scores={metric.key: row[metric.key] for metric in family},
            **{key: row[key] for key in ("low", "high", "gain", "gain_low", "gain_high")},
            chosen=strategy == chosen,
        )
        for strategy, row in evaluation["decisions"].items()
    ]


def comparison_rows(evaluation: dict[str, Any]) -> list[Comparison]:
    """Blend against stackers against base models."""
    return [Comparison(**row) for row in evaluation["comparisons"]]


def scored_images(evaluation: Mapping[str, Any]) -> str:
    """Which images everything was scored on; evaluations of before know none but those of validation."""
    return str(evaluation.get("rows", "validation images"))
