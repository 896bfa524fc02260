"""One table of every model, stacker and the blend on the same rows, and what DVC plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.params.blend import BLEND
from labelstack.predictions import Predictions, read_predictions
from labelstack.scoring import bootstrap, metrics
from labelstack.stacking.crossfit import primary_key
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stages import paths
from labelstack.stages.label_sets import label_sets, load_decision
from labelstack.stages.members import THE_BLEND, base_models, everyone
from labelstack.stages.rows import Rows, label_table, stacking_rows
from labelstack.stages.work.curves import threshold_curve
from labelstack.support import storage
from labelstack.support.storage import replacing

Answers = tuple[NDArray[np.int64], NDArray[np.uint8]]


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation found: the key of the primary score, every row's scores, those on the test answers alone."""

    primary: str
    table: Mapping[str, Mapping[str, Any]]
    on_test: Mapping[str, Mapping[str, float]]


def compute(params: Params) -> Evaluated:
    """Write metrics/evaluation.json and metrics/plots/*.csv."""
    labels, rows = label_table(), stacking_rows()
    answers = read_test_answers(labels)
    table: dict[str, dict[str, Any]] = {}
    on_test: dict[str, dict[str, float]] = {}
    for member in everyone(params):
        name, scored = member.name, storage.read_json(member.scores)
        if answers is not None:
            decision = load_decision(member.rule)
            on_test[name] = test_scores(params, read_predictions(member.test), decision, answers)
            scored |= {key: round(value, 6) for key, value in on_test[name].items()}
        P = read_predictions(member.oof).rows_of(rows.row_id)
        scored["mean_average_precision"] = round(float(metrics.mean_average_precision(rows.Y, P)), 6)
        table[name] = {"kind": member.kind, **scored}
    primary = primary_key(params.metric)
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


def test_scores(params: Params, predictions: Predictions, decision: Decision, answers: Answers) -> dict[str, float]:
    """F-scores on the test split's answers, with the rule chosen on validation and with the fixed threshold."""
    image_id, truth = answers
    scores: dict[str, float] = {}
    for suffix, rule in (("", decision), ("_at_fixed", fixed_threshold(params, truth.shape[1]))):
        chosen, _ = label_sets(params, predictions, rule, image_id)
        for average in metrics.AVERAGES:
            score = metrics.f_beta(truth, chosen, average=average, beta=params.metric.beta)
            scores[f"test_{average}_f{params.metric.beta:g}{suffix}"] = score
    return scores


def fixed_threshold(params: Params, n_labels: int) -> Decision:
    """The rule that tuned ones are compared with."""
    return Decision("fixed", thresholds=np.full(n_labels, params.thresholds.fixed, np.float32))


def comparisons(params: Params, table: Mapping[str, Mapping[str, Any]], rows: Rows) -> list[dict[str, Any]]:
    """Blend against best stacker against best base model: cross-fitted difference, 95 % paired bootstrap interval."""
    primary = primary_key(params.metric)
    there = {member.name: member for member in everyone(params)}

    def labels(name: str) -> NDArray[np.bool_]:
        return read_predictions(there[name].cross_fitted).rows_of(rows.row_id) > 0

    def best(kind: str) -> str:
        return max((name for name in table if table[name]["kind"] == kind), key=lambda name: table[name][primary])

    stacker, single = best("stacker"), best("base model")
    compared = []
    for a, b in ((BLEND, stacker), (BLEND, single), (stacker, single)):
        paired = bootstrap.paired(rows.Y, labels(a), labels(b), average=params.metric.primary, beta=params.metric.beta)
        bounds = {"difference": paired.score, "low": paired.low, "high": paired.high}
        compared.append({"better": a, "other": b, **{key: round(value, 6) for key, value in bounds.items()}})
    return compared


def write_plots(
    params: Params, table: Mapping[str, Mapping[str, Any]], labels: pd.DataFrame, Y: NDArray[np.bool_]
) -> None:
    """Tables behind `dvc plots show`: leaderboard, training curves, threshold curve, per-label scores."""
    write_csv("leaderboard", pd.DataFrame([{"name": name, **row} for name, row in table.items()]))
    histories = [pd.read_csv(one.folder / "history.csv").assign(model=one.name) for one in base_models(params)]
    write_csv("training", pd.concat(histories).drop(columns="seconds"))
    blended = read_predictions(THE_BLEND.oof)
    curve = threshold_curve(params, Y, blended.probability)
    write_csv("thresholds", pd.DataFrame({key: getattr(curve, key) for key in ("threshold", *metrics.AVERAGES)}))
    chosen = read_predictions(THE_BLEND.cross_fitted).probability
    decision = load_decision(THE_BLEND.rule)
    score = f"f{params.metric.beta:g}"
    scores = metrics.per_label(Y, chosen, beta=params.metric.beta)
    in_sample = metrics.per_label(Y, decision.decide(blended.probability), beta=params.metric.beta)[score]
    scores["f1"] = scores.pop(score)
    thresholds = np.full(len(labels), np.nan) if decision.thresholds is None else decision.thresholds
    frame = labels[["label_id", "name", "group"]].assign(**scores, f1_in_sample=in_sample, threshold=thresholds)
    write_csv("per_label", frame)


def write_csv(name: str, frame: pd.DataFrame) -> None:
    """Write a table for `dvc plots`."""
    with replacing(paths.PLOTS / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6f")
