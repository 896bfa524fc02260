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
from labelstack.predictions import assemble_cube, read_predictions, write_predictions, writing
from labelstack.scoring.metric import metric_of
from labelstack.stacking.by_group import ByGroup
from labelstack.stacking.crossfit import CrossFitted, cross_fit, scores
from labelstack.stacking.deciding.decisions import fit_decision
from labelstack.stacking.fold_predictions import NestedBlocks, out_of_fold
from labelstack.stacking.stackers.construction import make_stacker
from labelstack.stacking.stackers.fold_ensemble import FoldEnsemble
from labelstack.stacking.stackers.stacker import Stacker
from labelstack.stages.choosing import choices
from labelstack.stages.cross_fitted import save_cross_fitted
from labelstack.stages.fold_files import read_stacking
from labelstack.stages.kept_predictions import cube_of, of_folds, too_much
from labelstack.stages.label_sets import save_decision
from labelstack.stages.members import Member, cube_members, stacker
from labelstack.stages.rows import Rows, label_table
from labelstack.stages.work.curves import threshold_curve
from labelstack.support import storage
from labelstack.support.dtypes import Dtype

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
    make: Callable[[], Stacker] = partial(make_stacker, section)
    unknown = np.nan
    if rows.known is not None:
        make = partial(ByGroup.of, section, labels["group"].tolist())
        unknown = 0  # as NaN it says nothing of a group
    files = [work / "cube.npy", work / "test_cube.npy"]
    cube = cube_of(parts, rows.row_id, files[0], unknown=unknown)
    test_cube = cube_of(test_parts, test_id, files[1], unknown=unknown)
    own, dtype = stacker(name), params.prediction.dtype
    large = rows.known is None and too_much(rows.Y.size * (params.folds.k + 1))
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
            keep_nested=partial(_keep_nested, own.nested, rows.row_id, dtype),
        )
    assert result.test is not None  # there is a test cube
    ensemble, nested = result.ensemble, result.nested is not None
    ensemble.save(own.learnt)
    write_predictions(own.oof, rows.row_id, result.oof, dtype=dtype)
    write_predictions(own.test, test_id, result.test, dtype=dtype)
    write_audit_predictions(params, own, ensemble)
    if not nested:
        own.nested.unlink(missing_ok=True)  # one of other folds would be taken for theirs
    del cube, test_cube, result
    for file in files:
        file.unlink(missing_ok=True)
    predictions = of_folds(own, rows.row_id, nested=nested, large=large)  # as the blend reads them
    chosen = choices(params, labels, rows)
    fitted = cross_fit(predictions, rows.Y, folds, **chosen)
    save_cross_fitted(own.cross_fitted, rows.row_id, fitted, metric_of(params.metric))
    probability = np.asarray(predictions.like_new(folds))
    if chosen["asked"] is not None:
        probability = chosen["asked"].within(probability)
    by = {
        "groups": chosen["groups"],
        "asked": chosen["asked"],
        "folds": folds,
        "new": read_predictions(own.test).probability if params.thresholds.by_new_images else None,
    }
    decision = fit_decision(rows.Y, probability, params.thresholds, params.metric, **by)
    save_decision(own.rule, labels["label_id"].to_numpy(), decision)
    measured = scores(rows.Y, predictions, folds, **chosen, fitted=fitted, decision=decision)
    storage.write_json(own.scores, {k: round(v, 6) for k, v in measured.items()})
    curve = threshold_curve(params, rows.Y, probability)
    return Stacked(rows, labels, fitted, measured, curve, ensemble.digest(), test_id)


def write_audit_predictions(params: Params, own: Member, ensemble: FoldEnsemble) -> None:
    """What a stacker says of the audit rows, which it sees as new ones; no file where there are none."""
    parts = {one.name: read_predictions(one.audit) for one in cube_members(params) if one.audit.exists()}
    if not parts:
        own.audit.unlink(missing_ok=True)  # of other params
        return
    row_id = next(iter(parts.values())).image_id
    said = ensemble.predict_proba(assemble_cube(parts, row_id))
    write_predictions(own.audit, row_id, said, dtype=params.prediction.dtype)


def _keep_nested(
    file: Path, row_id: NDArray[np.int64], dtype: Dtype, shape: tuple[int, int, int], blocks: NestedBlocks
) -> NDArray[np.float32]:
    """Write nested predictions as they are put together; the matrices [k, n, n_labels], which lie in the file."""
    with writing(file, shape, dtype=dtype) as add:
        for rows, block in blocks:
            add(row_id[rows], block)
    return read_predictions(file).folds(np.arange(shape[0]))
