"""Stage `evaluate`: one table of every model, stacker and the blend on the same rows, and what DVC plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack import bootstrap, metrics, storage
from labelstack.params import Params, load_params
from labelstack.pipeline import paths
from labelstack.pipeline.board import threshold_curve
from labelstack.pipeline.common import Targets, done, label_table, load_decision, targets
from labelstack.pipeline.datasets import test_data
from labelstack.pipeline.decisions import label_sets
from labelstack.predictions import Predictions, read_predictions
from labelstack.stacking.crossfit import primary_key
from labelstack.stacking.decisions import Decision
from labelstack.storage import replacing
from labelstack.tracking.run_file import read_run_json
from labelstack.tracking.runs import connect

BLEND = "blend"


def sources(params: Params) -> dict[str, dict[str, Any]]:
    """For every model, stacker and the blend: kind, folder, scores on validation, predictions of both splits."""
    rows: dict[str, dict[str, Any]] = {}
    for name in params.models:
        rows[name] = {
            "kind": "base model",
            "folder": paths.base(name),
            "scores": paths.METRICS / "predict" / f"{name}.json",
            "labels": paths.cross_fitted(name, stacker=False),
            "oof": paths.predictions(name, "validation"),
            "test": paths.predictions(name, "test"),
        }
    for name in params.stackers:
        rows[name] = {
            "kind": "stacker",
            "folder": paths.stacker(name),
            "scores": paths.METRICS / "stack" / f"{name}.json",
            "labels": paths.cross_fitted(name, stacker=True),
            "oof": paths.stacked(name, "oof"),
            "test": paths.stacked(name, "test"),
        }
    rows[BLEND] = {
        "kind": "blend",
        "folder": paths.ENSEMBLE,
        "scores": paths.METRICS / "blend.json",
        "labels": paths.BLENDED / "cross_fitted.npz",
        "oof": paths.BLENDED / "oof.npz",
        "test": paths.BLENDED / "test.npz",
    }
    return rows


def test_scores(params: Params, predictions: Predictions, decision: Decision, answers: Any) -> dict[str, float]:
    """F-scores on the test split's answers, with the rule chosen on validation and with the fixed threshold."""
    image_id, truth = answers
    scores: dict[str, float] = {}
    for suffix, rule in (("", decision), ("_at_fixed", fixed_threshold(params, truth.shape[1]))):
        chosen, _ = label_sets(params, predictions, rule, image_id)
        for average in ("samples", "micro", "macro"):
            score = metrics.f_beta(truth, chosen, average=average, beta=params.metric.beta)
            scores[f"test_{average}_f{params.metric.beta:g}{suffix}"] = score
    return scores


def fixed_threshold(params: Params, n_labels: int) -> Decision:
    """The rule that tuned ones are compared with."""
    return Decision("fixed", thresholds=np.full(n_labels, params.thresholds.fixed, np.float32))


def comparisons(params: Params, table: dict[str, dict[str, Any]], rows: Targets) -> list[dict[str, Any]]:
    """Blend against best stacker against best base model: cross-fitted difference, 95 % paired bootstrap interval."""
    primary = primary_key(params.metric)
    found = sources(params)

    def labels(name: str) -> NDArray[np.bool_]:
        return read_predictions(found[name]["labels"]).rows_of(rows.image_id) > 0

    def best(kind: str) -> str:
        return max(
            (name for name in table if table[name]["kind"] == kind), key=lambda name: float(table[name][primary])
        )

    stacker, single = best("stacker"), best("base model")
    compared = []
    for a, b in ((BLEND, stacker), (BLEND, single), (stacker, single)):
        found_ = bootstrap.paired(rows.Y, labels(a), labels(b), average=params.metric.primary, beta=params.metric.beta)
        bounds = {"difference": found_.score, "low": found_.low, "high": found_.high}
        compared.append({"better": a, "other": b, **{key: round(value, 6) for key, value in bounds.items()}})
    return compared


def read_test_answers(params: Params, labels: pd.DataFrame) -> Any:
    """Ids and labels uint8 of the test split, when ``dataset.answers`` names them; else None."""
    if not params.dataset.answers:
        return None
    from labelstack.formats.imaterialist2018 import read_answers
    from labelstack.formats.manifest import label_matrix

    answers = read_answers(Path(params.dataset.answers), labels)
    columns = labels["label_id"].to_numpy()
    return answers["image_id"].to_numpy(np.int64), label_matrix(answers["label_id"].tolist(), columns)


def write_csv(name: str, frame: pd.DataFrame) -> None:
    """Write a table for `dvc plots`."""
    with replacing(paths.PLOTS / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6f")


def run() -> None:
    """Write metrics/evaluation.json and metrics/plots/*.csv, and log test scores to the runs they belong to."""
    params = load_params()
    labels = label_table()
    rows = targets("validation")
    answers = read_test_answers(params, labels)
    table: dict[str, dict[str, Any]] = {}
    tracker = connect(params.tracking)
    for name, source in sources(params).items():
        scored = storage.read_json(source["scores"])
        if answers is not None:
            decision = load_decision(source["folder"] / "thresholds.json")
            on_test = test_scores(params, read_predictions(source["test"]), decision, answers)
            trained = read_run_json(source["folder"] / "run.json")
            stage = {"base model": "train", "stacker": "stack", "blend": "blend"}[source["kind"]]
            run_name = "ensemble" if name == BLEND else name
            with tracker.run(stage, run_name, run_id=trained["run_id"]) as run_:
                seen = test_data(params, read_predictions(source["test"]).image_id)
                run_.log_metrics(on_test, model=None if name == BLEND else name, dataset=seen)
            scored |= {key: round(value, 6) for key, value in on_test.items()}
        P = read_predictions(source["oof"]).rows_of(rows.image_id)
        scored["mean_average_precision"] = round(float(metrics.mean_average_precision(rows.Y, P)), 6)
        table[name] = {"kind": source["kind"], **scored}
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
    best = max(table, key=lambda name: table[name][primary])
    done("evaluate", f"{len(table)} rows, best {primary}: {best} {table[best][primary]:.4f}", paths.EVALUATION)


def write_plots(params: Params, table: dict[str, dict[str, Any]], labels: pd.DataFrame, Y: Any) -> None:
    """Tables behind `dvc plots show`: leaderboard, training curves, threshold curve, per-label scores."""
    leaderboard = pd.DataFrame([{"name": name, **row} for name, row in table.items()])
    write_csv("leaderboard", leaderboard)
    histories = [pd.read_csv(paths.base(name) / "history.csv").assign(model=name) for name in params.models]
    write_csv("training", pd.concat(histories).drop(columns="seconds"))
    blended = read_predictions(paths.BLENDED / "oof.npz")
    curve = threshold_curve(params, Y, blended.probability)
    columns = {key: getattr(curve, key) for key in ("threshold", "samples", "micro", "macro")}
    write_csv("thresholds", pd.DataFrame(columns))
    chosen = read_predictions(paths.BLENDED / "cross_fitted.npz").probability
    decision = load_decision(paths.ENSEMBLE / "thresholds.json")
    score = f"f{params.metric.beta:g}"
    scores = metrics.per_label(Y, chosen, beta=params.metric.beta)
    in_sample = metrics.per_label(Y, decision.decide(blended.probability), beta=params.metric.beta)[score]
    scores["f1"] = scores.pop(score)
    thresholds = np.full(len(labels), np.nan) if decision.thresholds is None else decision.thresholds
    frame = labels[["label_id", "name", "group"]].assign(**scores, f1_in_sample=in_sample, threshold=thresholds)
    write_csv("per_label", frame)
