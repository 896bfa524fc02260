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
from labelstack.params.metric import MetricSection
from labelstack.params.thresholds import ARGMAX
from labelstack.predictions import Predictions, answered, known_rows, read_predictions
from labelstack.scoring import bootstrap, metrics
from labelstack.scoring.mean_average_precision import MeanAveragePrecision
from labelstack.scoring.metric import metric_of
from labelstack.scoring.metrics import most_probable
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stages import paths
from labelstack.stages.choosing import asked_of
from labelstack.stages.cross_fitted import read_cross_fitted
from labelstack.stages.fold_files import read_audit, stacking_rows
from labelstack.stages.label_sets import label_sets, load_decision, probabilities
from labelstack.stages.members import THE_BLEND, Member, everyone, network_members
from labelstack.stages.rows import Rows, label_table, rows_in
from labelstack.stages.work.curves import threshold_curve
from labelstack.stages.work.score_attributes import attribute_scores
from labelstack.support import storage
from labelstack.support.spreadsheet import write_table
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
    labels, rows, audit = label_table(), stacking_rows(params), read_audit()
    answers = read_test_answers(labels)
    ranking = MeanAveragePrecision(MetricSection(primary="mean_average_precision"))
    asked = None if rows.known is None else answered_rows(labels)
    table: dict[str, dict[str, Any]] = {}
    on_test: dict[str, dict[str, float]] = {}
    for member in everyone(params):
        name, scored = member.name, storage.read_json(member.scores)
        if answers is not None:
            decision = load_decision(member.rule)
            test, answered_of, asked_here = read_predictions(member.test), answers, asked
            if params.groups_of(name):
                test = known_rows(test)
                mine = np.isin(answers[0], test.image_id)
                answered_of = answers[0][mine], answers[1][mine]
                if asked is not None:
                    asked_here = asked.where(np.isin(asked.row_id, test.image_id))
            on_test[name] = test_scores(params, test, decision, answered_of, labels, asked_here)
            scored |= {key: round(value, 6) for key, value in on_test[name].items()}
        if audit is not None:
            found = audit_scores(params, member, audit, labels)
            scored |= {key: round(value, 6) for key, value in found.items()}
        P = read_predictions(member.oof).rows_of(rows.row_id)
        shown = answered(P)
        if not shown.all():
            scored["n_rows"] = int(shown.sum())
        scored[ranking.key] = round(ranking.score(rows.Y[shown], np.nan_to_num(P[shown])), 6)
        scored |= attribute_scores(rows.where(shown), P[shown], labels)
        if answers is not None and asked is not None:
            said = probabilities(read_predictions(member.test), asked.row_id, labels)
            scored |= attribute_scores(asked.where(answered(said)), said[answered(said)], labels, prefix="test_")
        table[name] = {"kind": member.kind, **({"flattered": True} if name in params.flattered else {}), **scored}
    primary = metric_of(params.metric).cross_fitted
    evaluation: dict[str, Any] = {
        "primary": primary,
        "rows": "train images out of fold" if params.by_fold else "validation images",
        "caveats": caveats(params),
        "n_validation": len(rows.Y),
        "n_test": 0 if answers is None else len(answers[0]),
        **({} if audit is None else {"n_audit": len(audit)}),
        "n_labels": len(labels),
        "scores": table,
        "comparisons": comparisons(params, table, rows),
        "decisions": storage.read_json(paths.METRICS / "decisions.json"),
    }
    storage.write_json(paths.EVALUATION, evaluation)
    write_plots(params, table, labels, rows.Y)
    return Evaluated(primary, table, on_test)


def caveats(params: Params) -> list[str]:
    """What must be known of the scores, such as what flatters them, in sentences for whoever shows them."""
    said = []
    if params.thresholds.exclusive:
        said.append(
            "Exactly one label: every image is given its most probable one, at no threshold; samples and micro F are "
            "the accuracy."
        )
    if params.by_fold:
        said.append(
            "Out of fold: every image is predicted by the networks that did not learn from it; what is stacked for one "
            "fold comes from networks that saw its images, a second-order effect."
        )
    if params.training.monitor == "fold":
        said.append("Flattered: the networks were stopped by the very rows that they are scored on.")
    if params.flattered:
        said.append(
            f"Flattered: {', '.join(params.flattered)}, since what taught them has seen the rows that they predict. "
            "Stackers do not learn from students, their weights in the blend are chosen on the audit rows (0 without), "
            "and cross-fitted scores of the blend are without them."
        )
    return said


def read_test_answers(labels: pd.DataFrame) -> Answers | None:
    """Ids and labels of the test split, as the stage `answers` left them; None when they are not known."""
    from labelstack.formats.manifest import label_matrix, read_manifest

    answers = read_manifest(paths.ANSWERS)
    if answers.empty:
        return None
    columns = labels["label_id"].to_numpy()
    return answers["image_id"].to_numpy(np.int64), label_matrix(answers["label_id"].tolist(), columns)


def answered_rows(labels: pd.DataFrame) -> Rows | None:
    """The rows of the test split whose labels are known; None where there is none."""
    from labelstack.formats.manifest import read_manifest

    answers = read_manifest(paths.ANSWERS)
    return None if answers.empty else rows_in("test", answers, labels, answers["image_id"].to_numpy(np.int64))


def test_scores(
    params: Params,
    predictions: Predictions,
    decision: Decision,
    answers: Answers,
    labels: pd.DataFrame,
    asked: Rows | None,
) -> dict[str, float]:
    """Scores on the test split's answers, of label sets by the rule chosen on validation and by the fixed threshold.

    ``asked`` are the same rows where they know one label group each, which alone counts.
    """
    image_id, known = answers[0], answers[1].astype(np.bool_)
    if asked is not None:
        return _asked_scores(params, predictions, decision, asked, labels)
    scores: dict[str, float] = {}
    family = metric_of(params.metric).family
    for suffix, rule in (("", decision), ("_at_fixed", fixed_threshold(params, known.shape[1]))):
        chosen, _ = label_sets(params, predictions, rule, image_id)
        scores |= {f"test_{m.key}{suffix}": m.score(known, chosen) for m in family if m.wants == "label_sets"}
    if others := [m for m in family if m.wants != "label_sets"]:
        P = probabilities(predictions, image_id, labels)
        scores |= {f"test_{m.key}": m.score(known, P) for m in others}
    return scores


def _asked_scores(
    params: Params, predictions: Predictions, decision: Decision, rows: Rows, labels: pd.DataFrame
) -> dict[str, float]:
    asked = asked_of(rows, labels)
    assert asked is not None
    P = asked.within(probabilities(predictions, rows.row_id, labels))
    chosen = {"": decision.decide(P), "_at_fixed": most_probable(P)}
    return {
        f"test_{metric.key}{suffix}": metric.score(rows.Y, metric.given(rows.Y, given, P, asked))
        for metric in metric_of(params.metric).family
        for suffix, given in chosen.items()
        if metric.wants == "label_sets" or not suffix
    }


def audit_scores(params: Params, member: Member, audit: Rows, labels: pd.DataFrame) -> dict[str, float]:
    """Scores on the audit rows, which nothing was learned from or chosen by; of label sets by the rule in use."""
    P = read_predictions(member.audit).rows_of(audit.row_id)
    if not (shown := answered(P)).all():
        audit, P = audit.where(shown), np.nan_to_num(P[shown])
    asked = asked_of(audit, labels)
    P = P if asked is None else asked.within(P)
    chosen = load_decision(member.rule).decide(P)
    return {
        f"audit_{metric.key}": metric.score(audit.Y, metric.given(audit.Y, chosen, P, asked))
        for metric in metric_of(params.metric).family
    }


def fixed_threshold(params: Params, n_labels: int) -> Decision:
    """The rule that tuned ones are compared with; where every image has exactly one label there is but one rule."""
    if params.thresholds.exclusive:
        return Decision(ARGMAX)
    return Decision("fixed", thresholds=np.full(n_labels, params.thresholds.fixed, np.float32))


def comparisons(params: Params, table: Mapping[str, Mapping[str, Any]], rows: Rows) -> list[dict[str, Any]]:
    """Blend against best stacker against best single model: cross-fitted difference, 95 % paired bootstrap interval.

    Models that know some label groups alone have no rows in common with the others.
    """
    metric = metric_of(params.metric)
    there = {member.name: member for member in everyone(params)}

    def given(name: str) -> NDArray[Any]:
        return read_cross_fitted(there[name].cross_fitted, rows.row_id, metric)

    def best(*kinds: str) -> str | None:
        of_kind = (
            name
            for name, scored in table.items()
            if scored["kind"] in kinds and not scored.get("flattered") and not params.groups_of(name)
        )
        return max(of_kind, key=lambda name: table[name][metric.cross_fitted], default=None)

    stacker, single = best("stacker"), best("base model", "second round")
    compared = []
    for a, b in ((BLEND, stacker), (BLEND, single), (stacker, single)):
        if a is None or b is None:
            continue
        paired = bootstrap.paired(metric, rows.Y, given(a), given(b))
        bounds = {"difference": paired.score, "low": paired.low, "high": paired.high}
        compared.append({"better": a, "other": b, **{key: round(value, 6) for key, value in bounds.items()}})
    return compared


def write_plots(
    params: Params, table: Mapping[str, Mapping[str, Any]], labels: pd.DataFrame, Y: NDArray[np.bool_]
) -> None:
    """Tables behind `dvc plots show`: leaderboard, training curves, threshold curve, per-label scores."""
    write_csv("leaderboard", pd.DataFrame([{"name": name, **row} for name, row in table.items()]))
    networks = [network for one in network_members(params) for network in one.networks]
    histories = [pd.read_csv(network.history).assign(model=network.name) for network in networks]
    write_csv("training", pd.concat(histories).drop(columns="seconds"))
    blended = read_predictions(THE_BLEND.oof)
    curve = threshold_curve(params, Y, blended.probability)
    write_csv("thresholds", pd.DataFrame({"threshold": curve.threshold, **curve.scores}))
    chosen = read_predictions(THE_BLEND.cross_fitted).probability
    decision = load_decision(THE_BLEND.rule)
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
        write_table(frame, temporary, float_format="%.6f")
