"""Weights and decision rule of the ensemble, chosen on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.predictions import Predictions, read_predictions, write_predictions
from labelstack.scoring.metric import metric_of
from labelstack.stacking.blend_file import FileMember, write_blend_file
from labelstack.stacking.crossfit import CrossFitted, fit_blend, scores, strategy_scores
from labelstack.stacking.deciding.decisions import fit_decision
from labelstack.stacking.fold_predictions import FoldPredictions
from labelstack.stacking.group_worth import group_worth
from labelstack.stacking.mixing import Mix, PlainMix
from labelstack.stacking.student_weights import student_weights
from labelstack.stages import paths
from labelstack.stages.choosing import choices
from labelstack.stages.cross_fitted import save_cross_fitted
from labelstack.stages.fold_files import read_audit, read_stacking
from labelstack.stages.kept_predictions import numbers_of, of_folds, too_much
from labelstack.stages.label_sets import save_decision
from labelstack.stages.members import THE_BLEND, blended, oof_files
from labelstack.stages.rows import Rows, label_table
from labelstack.stages.work.curves import threshold_curve
from labelstack.support import storage
from labelstack.support.dtypes import Dtype
from labelstack.support.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from labelstack.scoring.threshold_curve import ThresholdCurve


@dataclass(frozen=True)
class Mixed:
    """What the blend gave.

    Attributes
    ----------
    rows, labels : the stacking rows and the label table
    fitted : what is cross-fitted of the rows
    scores : by name
    weights : by member
    strategy : of the decision rule in use
    strategies : scores of every strategy
    curve : of one threshold for all labels
    test_id : int64 [m], the test images
    """

    rows: Rows
    labels: pd.DataFrame
    fitted: CrossFitted
    scores: dict[str, float]
    weights: dict[str, float]
    strategy: str
    strategies: Mapping[str, Mapping[str, float]]
    curve: ThresholdCurve
    test_id: NDArray[np.int64]


def new_predictions(params: Params, part: Literal["test", "audit"]) -> dict[str, Predictions]:
    """Predictions of every blend member for rows that are new to it; none where there are no such rows."""
    files = {one.name: one.test if part == "test" else one.audit for one in blended(params)}
    return {name: read_predictions(file) for name, file in files.items() if part == "test" or file.exists()}


def fold_predictions(params: Params, row_id: NDArray[np.int64], *, groups: bool = False) -> dict[str, FoldPredictions]:
    """What the folds say of every blend member; stackers have nested predictions where ``folds.nested`` made them.

    What would be too much stays in the files and is read whenever it is used; not where rows know one label group
    each (``groups``).

    Raises
    ------
    UserError
        When a stacker's nested predictions are of other folds than params.yaml asks for, or lack.
    """
    expected = params.folds.k if params.folds.nested and params.folds.k > 2 else None
    problems, everyone = [], blended(params)
    for one in everyone:
        if one.kind == "stacker":
            name, file = one.name, one.nested
            if (k := read_predictions(file).shape[1] if file.exists() else None) != expected:
                there = "none is there" if k is None else f"{file} has {k} folds"
                wanted = "none" if expected is None else f"{expected} folds"
                problems.append(
                    f"{name}: params.yaml asks for nested predictions of {wanted}, and {there}. "
                    f"Run `dvc repro` (or `labelstack stage stack {name}`) first."
                )
    if problems:
        raise UserError("\n".join(problems))
    nested = expected is not None
    large = not groups and too_much(numbers_of(everyone, len(row_id), nested=nested))
    return {one.name: of_folds(one, row_id, nested=nested and one.kind == "stacker", large=large) for one in everyone}


def compute(params: Params) -> Mixed:
    """Write models/ensemble (blend, as YAML too, thresholds), blended predictions, metrics/{blend,decisions}.json."""
    stacking, labels = read_stacking(params), label_table()
    rows, folds = stacking.rows, stacking.folds
    everyone = fold_predictions(params, rows.row_id, groups=rows.known is not None)
    members = {name: one for name, one in everyone.items() if name not in params.flattered}
    test = new_predictions(params, "test")
    test_id = next(iter(test.values())).image_id
    chosen = choices(params, labels, rows)
    new = (
        {name: p.matrix(p.places_of(test_id)) for name, p in test.items()} if params.thresholds.by_new_images else None
    )
    honest = None if new is None else {name: new[name] for name in members}
    mixed = fit_blend(members, rows.Y, folds, blend_params=params.blend, new=honest, **chosen)
    weights, oof, fitted, decision, mix = (
        mixed.weights,
        mixed.probability,
        mixed.cross_fitted,
        mixed.decision,
        mixed.mix,
    )
    audit = new_predictions(params, "audit")
    if params.flattered:
        weights = with_students(params, weights, audit)
        mix = PlainMix(weights, params.thresholds.exclusive)
        if any(weights[name] for name in params.flattered):
            oof = mix({name: one.like_new(folds) for name, one in everyone.items()})
            unseen = None if new is None else mix(new)
            by = {"groups": chosen["groups"], "folds": folds, "new": unseen}
            decision = fit_decision(rows.Y, oof, params.thresholds, params.metric, **by)
    measured = scores(rows.Y, oof, folds, **chosen, fitted=fitted, decision=decision)
    if rows.known is not None:
        measured |= group_worth(members, fitted, rows.Y, folds, params.blend, params.thresholds)
    strategies = strategy_scores(members, fitted, rows.Y, folds, **chosen)
    storage.write_json(THE_BLEND.learnt, mix.to_dict())
    write_blend_file(
        paths.BLEND_FILE, [FileMember(tuple(oof_files(one)), weights[one.name]) for one in blended(params)]
    )
    save_decision(THE_BLEND.rule, labels["label_id"].to_numpy(), decision)
    dtype = params.prediction.dtype
    write_predictions(THE_BLEND.oof, rows.row_id, oof, dtype=dtype)
    save_cross_fitted(THE_BLEND.cross_fitted, rows.row_id, fitted, metric_of(params.metric))
    storage.write_json(
        paths.METRICS / "decisions.json",
        {name: {key: round(value, 6) for key, value in row.items()} for name, row in strategies.items()},
    )
    _write_blend(THE_BLEND.test, test, mix, dtype)
    if audit:
        _write_blend(THE_BLEND.audit, audit, mix, dtype)
    else:
        THE_BLEND.audit.unlink(missing_ok=True)  # of other params
    storage.write_json(THE_BLEND.scores, {k: round(v, 6) for k, v in measured.items()})
    curve = threshold_curve(params, rows.Y, oof)
    strategy = decision.strategy
    return Mixed(rows, labels, fitted, measured, weights, strategy, strategies, curve, test_id)


def with_students(params: Params, weights: Mapping[str, float], audit: Mapping[str, Predictions]) -> dict[str, float]:
    """Weights of all members, those of students chosen on the audit rows; without such rows students have 0.

    Parameters
    ----------
    weights : of the other members, which keep their proportions
    audit : predictions of the audit rows by member; empty where there are none
    """
    students = [name for name in params.blend_members() if name in params.flattered]
    share = dict.fromkeys(students, 0.0)
    rest = 1.0
    if audit and students and (rows := read_audit()) is not None:
        given = {name: one.rows_of(rows.row_id) for name, one in audit.items()}
        taught = {name: given[name] for name in students}
        others = PlainMix(dict(weights), params.thresholds.exclusive)(given)
        share = student_weights(others, taught, rows.Y, params.blend, params.metric, params.thresholds.exclusive)
        rest = 1 - sum(share.values())
    return {name: share[name] if name in share else rest * weights[name] for name in params.blend_members()}


def _write_blend(file: Path, members: Mapping[str, Predictions], mix: Mix, dtype: Dtype) -> None:
    row_id = next(iter(members.values())).image_id
    rows = {name: p.matrix(p.places_of(row_id)) for name, p in members.items()}
    write_predictions(file, row_id, mix(rows), dtype=dtype)
