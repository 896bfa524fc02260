"""One table of every model, stacker and the blend on the same rows, and what DVC plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.params.metric import MetricSection
from labelstack.predictions import Predictions, read_predictions
from labelstack.scoring import bootstrap, metrics
from labelstack.scoring.mean_average_precision import MeanAveragePrecision
from labelstack.scoring.metric import metric_of
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stages import paths
from labelstack.stages.cross_fitted import read_cross_fitted
from labelstack.stages.label_sets import label_sets, load_decision, probabilities
from labelstack.stages.rows import Targets, label_table, targets
from labelstack.stages.work.curves import threshold_curve
from labelstack.support import storage
from labelstack.support.storage import replacing

BLEND = "blend"
Answers = tuple[NDArray[np.int64], NDArray[np.uint8]]


@dataclass(frozen=True)
class Source:
    """Where a row of the table comes from.

    Attributes
    ----------
    kind : ``base model``, ``stacker`` or ``blend``
    folder : its decision rule and run.json
    scores : its scores on validation
    labels : its cross-fitted label sets, other cross-fitted files beside it
    oof, test : its predictions of both splits
    """

    kind: str
    folder: Path
    scores: Path
    labels: Path
    oof: Path
    test: Path


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation found: the key of the primary score, every row's scores, those on the test answers alone."""

    primary: str
    table: Mapping[str, Mapping[str, Any]]
    on_test: Mapping[str, Mapping[str, float]]


def sources(params: Params) -> dict[str, Source]:
    """For every model, stacker and the blend: where what it said lies."""
    rows = {
        name: Source(
            "base model",
            paths.base(name),
            paths.METRICS / "predict" / f"{name}.json",
            paths.cross_fitted(name, stacker=False),
            paths.predictions(name, "validation"),
            paths.predictions(name, "test"),
        )
        for name in params.models
    }
    rows |= {
        name: Source(
            "stacker",
            paths.stacker(name),
            paths.METRICS / "stack" / f"{name}.json",
            paths.cross_fitted(name, stacker=True),
            paths.stacked(name, "oof"),
            paths.stacked(name, "test"),
        )
        for name in params.stackers
    }
    blended = (paths.BLENDED / f"{part}.npz" for part in ("cross_fitted", "oof", "test"))
    return rows | {BLEND: Source(BLEND, paths.ENSEMBLE, paths.METRICS / "blend.json", *blended)}


def compute(params: Params) -> Evaluated:
    """Write metrics/evaluation.json and metrics/plots/*.csv."""
    labels, rows = label_table(), targets("validation")
    answers = read_test_answers(labels)
    ranking = MeanAveragePrecision(MetricSection(primary="mean_average_precision"))
    table: dict[str, dict[str, Any]] = {}
    on_test: dict[str, dict[str, float]] = {}
    for name, source in sources(params).items():
        scored = storage.read_json(source.scores)
        if answers is not None:
            decision = load_decision(source.folder / "thresholds.json")
            on_test[name] = test_scores(params, read_predictions(source.test), decision, answers, labels)
            scored |= {key: round(value, 6) for key, value in on_test[name].items()}
        P = read_predictions(source.oof).rows_of(rows.image_id)
        scored[ranking.key] = round(ranking.score(rows.Y, P), 6)
        table[name] = {"kind": source.kind, **scored}
    primary = metric_of(params.metric).cross_fitted
    evaluation: dict[str, Any] = {
        "primary": primary,
        "n_validation": len(rows.Y),
        "n_test": 0 if answers is None else len(answers[0]),
        "n_labels": len(labels),
        "scores": table,
        "comparisons": comparisons(params, table, rows),
        "decisions": storage.read_json(paths.METRICS / "decisions.json"),
    }
    storage.write_json(paths.EVALUATION, evaluation)
    write_plots(params, table, labels, rows.Y)
    return Evaluated(primary, table, on_test)


def read_test_answers(labels: pd.DataFrame) -> Answers | None:
    """Ids and labels of the test split, as the stage `answers` left them; None when they are not known."""
    from labelstack.formats.manifest import label_matrix, read_manifest

    answers = read_manifest(paths.ANSWERS)
    if answers.empty:
        return None
    columns = labels["label_id"].to_numpy()
    return answers["image_id"].to_numpy(np.int64), label_matrix(answers["label_id"].tolist(), columns)


def test_scores(
    params: Params, predictions: Predictions, decision: Decision, answers: Answers, labels: pd.DataFrame
) -> dict[str, float]:
    """Scores on the test split's answers, of label sets by the rule chosen on validation and by the fixed threshold."""
    image_id, known = answers[0], answers[1].astype(np.bool_)
    scores: dict[str, float] = {}
    family = metric_of(params.metric).family
    for suffix, rule in (("", decision), ("_at_fixed", fixed_threshold(params, known.shape[1]))):
        chosen, _ = label_sets(params, predictions, rule, image_id)
        scores |= {f"test_{m.key}{suffix}": m.score(known, chosen) for m in family if m.wants == "label_sets"}
    if others := [m for m in family if m.wants != "label_sets"]:
        P = probabilities(predictions, image_id, labels)
        scores |= {f"test_{m.key}": m.score(known, P) for m in others}
    return scores


def fixed_threshold(params: Params, n_labels: int) -> Decision:
    """The rule that tuned ones are compared with."""
    return Decision("fixed", thresholds=np.full(n_labels, params.thresholds.fixed, np.float32))


def comparisons(params: Params, table: Mapping[str, Mapping[str, Any]], rows: Targets) -> list[dict[str, Any]]:
    """Blend against best stacker against best base model: cross-fitted difference, 95 % paired bootstrap interval."""
    metric = metric_of(params.metric)
    there = sources(params)

    def given(name: str) -> NDArray[Any]:
        return read_cross_fitted(there[name].labels, rows.image_id, metric)

    def best(kind: str) -> str:
        of_kind = (name for name in table if table[name]["kind"] == kind)
        return max(of_kind, key=lambda name: table[name][metric.cross_fitted])

    stacker, single = best("stacker"), best("base model")
    compared = []
    for a, b in ((BLEND, stacker), (BLEND, single), (stacker, single)):
        paired = bootstrap.paired(metric, rows.Y, given(a), given(b))
        bounds = {"difference": paired.score, "low": paired.low, "high": paired.high}
        compared.append({"better": a, "other": b, **{key: round(value, 6) for key, value in bounds.items()}})
    return compared


def write_plots(
    params: Params, table: Mapping[str, Mapping[str, Any]], labels: pd.DataFrame, Y: NDArray[np.bool_]
) -> None:
    """Tables behind `dvc plots show`: leaderboard, training curves, threshold curve, per-label scores."""
    write_csv("leaderboard", pd.DataFrame([{"name": name, **row} for name, row in table.items()]))
    histories = [pd.read_csv(paths.base(name) / "history.csv").assign(model=name) for name in params.models]
    write_csv("training", pd.concat(histories).drop(columns="seconds"))
    blended = read_predictions(paths.BLENDED / "oof.npz")
    curve = threshold_curve(params, Y, blended.probability)
    write_csv("thresholds", pd.DataFrame({"threshold": curve.threshold, **curve.scores}))
    chosen = read_predictions(paths.BLENDED / "cross_fitted.npz").probability
    decision = load_decision(paths.ENSEMBLE / "thresholds.json")
    f = metric_of(params.metric).fits
    scores = metrics.per_label(Y, chosen, beta=f.beta)
    in_sample = f.per_label(Y, decision.decide(blended.probability))
    scores["f1"] = scores.pop(f"f{f.beta:g}")
    thresholds = np.full(len(labels), np.nan) if decision.thresholds is None else decision.thresholds
    frame = labels[["label_id", "name", "group"]].assign(**scores, f1_in_sample=in_sample, threshold=thresholds)
    write_csv("per_label", frame)


def write_csv(name: str, frame: pd.DataFrame) -> None:
    """Write a table for `dvc plots`."""
    with replacing(paths.PLOTS / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6f")
