"""Weights and decision rule of the ensemble, chosen on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.predictions import Predictions, read_predictions, write_predictions
from labelstack.scoring.metric import metric_of
from labelstack.stacking.blending import blend
from labelstack.stacking.crossfit import CrossFitted, fit_blend, scores, strategy_scores
from labelstack.stacking.fold_predictions import FoldPredictions
from labelstack.stages import paths
from labelstack.stages.choosing import choices, validation_folds
from labelstack.stages.cross_fitted import save_cross_fitted
from labelstack.stages.label_sets import save_decision
from labelstack.stages.rows import Targets, label_table, targets
from labelstack.stages.work.curves import threshold_curve
from labelstack.support import storage
from labelstack.support.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from labelstack.scoring.threshold_curve import ThresholdCurve


@dataclass(frozen=True)
class Mixed:
    """What the blend gave.

    Attributes
    ----------
    rows, labels : the validation rows and the label table
    fitted : what is cross-fitted of the rows
    scores : by name
    weights : by member
    strategy : of the decision rule in use
    strategies : scores of every strategy
    curve : of one threshold for all labels
    test_id : int64 [m], the test images
    """

    rows: Targets
    labels: pd.DataFrame
    fitted: CrossFitted
    scores: dict[str, float]
    weights: dict[str, float]
    strategy: str
    strategies: Mapping[str, Mapping[str, float]]
    curve: ThresholdCurve
    test_id: NDArray[np.int64]


def member_predictions(params: Params, part: str) -> dict[str, Predictions]:
    """Predictions of every blend member; ``part`` is ``oof`` (validation rows) or ``test``."""
    split = {"oof": "validation", "test": "test"}[part]
    return {
        name: read_predictions(paths.stacked(name, part) if name in params.stackers else paths.predictions(name, split))
        for name in params.blend_members()
    }


def fold_predictions(params: Params, image_id: NDArray[np.int64]) -> dict[str, FoldPredictions]:
    """What the folds say of every blend member; stackers have nested predictions where ``folds.nested`` made them.

    Raises
    ------
    UserError
        When a stacker's nested predictions are of other folds than params.yaml asks for, or lack.
    """
    expected = params.folds.k if params.folds.nested and params.folds.k > 2 else None
    members, problems = {}, []
    for name, prediction in member_predictions(params, "oof").items():
        nested = None
        if name in params.stackers:
            file = paths.stacked(name, "nested")
            nested = read_predictions(file).rows_of(image_id).transpose(1, 0, 2) if file.exists() else None
            if (k := None if nested is None else len(nested)) != expected:
                there = "none is there" if k is None else f"{file} has {k} folds"
                wanted = "none" if expected is None else f"{expected} folds"
                problems.append(
                    f"{name}: params.yaml asks for nested predictions of {wanted}, and {there}. "
                    f"Run `dvc repro` (or `labelstack stage stack {name}`) first."
                )
                continue
        members[name] = FoldPredictions(prediction.rows_of(image_id), nested)
    if problems:
        raise UserError("\n".join(problems))
    return members


def compute(params: Params) -> Mixed:
    """Write models/ensemble (blend, thresholds), the blended predictions and metrics/{blend,decisions}.json."""
    rows, labels = targets("validation"), label_table()
    folds = validation_folds(params, rows.Y)
    members = fold_predictions(params, rows.image_id)
    test = member_predictions(params, "test")
    test_id = next(iter(test.values())).image_id
    chosen = choices(params, labels)
    blended = fit_blend(members, rows.Y, folds, blend_params=params.blend, **chosen)
    weights, oof, fitted = blended.weights, blended.probability, blended.cross_fitted
    measured = scores(rows.Y, oof, folds, **chosen, fitted=fitted, decision=blended.decision)
    strategies = strategy_scores(members, fitted, rows.Y, folds, **chosen)
    storage.write_json(paths.ENSEMBLE / "blend.json", {"weights": weights})
    save_decision(paths.ENSEMBLE / "thresholds.json", labels["label_id"].to_numpy(), blended.decision)
    write_predictions(paths.BLENDED / "oof.npz", rows.image_id, oof)
    save_cross_fitted(paths.BLENDED / "cross_fitted.npz", rows.image_id, fitted, metric_of(params.metric))
    storage.write_json(
        paths.METRICS / "decisions.json",
        {name: {key: round(value, 6) for key, value in row.items()} for name, row in strategies.items()},
    )
    blended_test = blend({name: p.rows_of(test_id) for name, p in test.items()}, weights)
    write_predictions(paths.BLENDED / "test.npz", test_id, blended_test)
    storage.write_json(paths.METRICS / "blend.json", {k: round(v, 6) for k, v in measured.items()})
    curve = threshold_curve(params, rows.Y, oof)
    strategy = blended.decision.strategy
    return Mixed(rows, labels, fitted, measured, weights, strategy, strategies, curve, test_id)
