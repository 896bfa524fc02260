"""One stacker, fold by fold, on the cube of base predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstack.compute.engine import Engine
from labelstack.params import Params
from labelstack.predictions import assemble_cube, read_predictions, write_predictions
from labelstack.scoring.metric import metric_of
from labelstack.stacking.by_group import ByGroup
from labelstack.stacking.crossfit import CrossFitted, cross_fit, scores
from labelstack.stacking.deciding.decisions import fit_decision
from labelstack.stacking.fold_predictions import out_of_fold
from labelstack.stacking.stackers.construction import make_stacker
from labelstack.stacking.stackers.fold_ensemble import FoldEnsemble
from labelstack.stacking.stackers.stacker import Stacker
from labelstack.stages.choosing import choices
from labelstack.stages.cross_fitted import save_cross_fitted
from labelstack.stages.fold_files import read_stacking
from labelstack.stages.label_sets import save_decision
from labelstack.stages.members import Member, cube_members, stacker
from labelstack.stages.rows import Rows, label_table
from labelstack.stages.work.curves import threshold_curve
from labelstack.support import storage

if TYPE_CHECKING:
    import pandas as pd

    from labelstack.scoring.threshold_curve import ThresholdCurve


@dataclass(frozen=True)
class Stacked:
    """What a stacker gave.

    Attributes
    ----------
    rows, labels : the stacking rows and the label table
    fitted : what is cross-fitted of the rows
    scores : by name
    curve : of one threshold for all labels
    digest : SHA-256 of what the fold models have learnt
    test_id : int64 [m], the test images
    """

    rows: Rows
    labels: pd.DataFrame
    fitted: CrossFitted
    scores: dict[str, float]
    curve: ThresholdCurve
    digest: str
    test_id: NDArray[np.int64]


def compute(params: Params, name: str, work: Path) -> Stacked:
    """Fit ``stackers.<name>``; write fold models, out-of-fold, nested and test predictions, thresholds and scores.

    ``work`` keeps finished fits, from which a killed attempt goes on.
    """
    section, models = params.stackers[name], params.cube_columns
    stacking, labels = read_stacking(params), label_table()
    rows, folds = stacking.rows, stacking.folds
    parts = {one.name: read_predictions(one.oof) for one in cube_members(params)}
    test_parts = {one.name: read_predictions(one.test) for one in cube_members(params)}
    test_id = test_parts[models[0]].image_id
    cube, test_cube = assemble_cube(parts, rows.row_id), assemble_cube(test_parts, test_id)
    make: Callable[[], Stacker] = partial(make_stacker, section)
    if rows.known is not None:
        make = partial(ByGroup.of, section, labels["group"].tolist())
        cube, test_cube = np.nan_to_num(cube, nan=0), np.nan_to_num(test_cube, nan=0)  # both say nothing of a group
    with Engine(params.engine) as engine:
        result = out_of_fold(
            make,
            cube,
            rows.Y,
            folds,
            test_cube=test_cube,
            nested=params.folds.nested,
            columns=models,
            work=work,
            map_=None if engine.local else engine.map,
        )
    assert result.test is not None  # there is a test cube
    own = stacker(name)
    result.ensemble.save(own.learnt)
    write_predictions(own.oof, rows.row_id, result.oof)
    write_predictions(own.test, test_id, result.test)
    write_audit_predictions(params, own, result.ensemble)
    if result.nested is None:
        own.nested.unlink(missing_ok=True)  # one of other folds would be taken for theirs
    else:
        write_predictions(own.nested, rows.row_id, result.nested.transpose(1, 0, 2))
    chosen = choices(params, labels, rows)
    fitted = cross_fit(result.predictions, rows.Y, folds, **chosen)
    save_cross_fitted(own.cross_fitted, rows.row_id, fitted, metric_of(params.metric))
    probability = result.predictions.like_new(folds)
    if chosen["asked"] is not None:
        probability = chosen["asked"].within(probability)
    by = {
        "groups": chosen["groups"],
        "asked": chosen["asked"],
        "folds": folds,
        "new": result.test if params.thresholds.by_new_images else None,
    }
    decision = fit_decision(rows.Y, probability, params.thresholds, params.metric, **by)
    save_decision(own.rule, labels["label_id"].to_numpy(), decision)
    measured = scores(rows.Y, result.predictions, folds, **chosen, fitted=fitted, decision=decision)
    storage.write_json(own.scores, {k: round(v, 6) for k, v in measured.items()})
    curve = threshold_curve(params, rows.Y, probability)
    return Stacked(rows, labels, fitted, measured, curve, result.ensemble.digest(), test_id)


def write_audit_predictions(params: Params, own: Member, ensemble: FoldEnsemble) -> None:
    """What a stacker says of the audit rows, which it sees as new ones; no file where there are none."""
    parts = {one.name: read_predictions(one.audit) for one in cube_members(params) if one.audit.exists()}
    if not parts:
        own.audit.unlink(missing_ok=True)  # of other params
        return
    row_id = next(iter(parts.values())).image_id
    write_predictions(own.audit, row_id, ensemble.predict_proba(assemble_cube(parts, row_id)))
