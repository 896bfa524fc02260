"""One stacker, fold by fold, on the cube of base predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstack.compute.engine import Engine
from labelstack.params import Params
from labelstack.predictions import assemble_cube, read_predictions, write_predictions
from labelstack.scoring.metric import metric_of
from labelstack.stacking.crossfit import CrossFitted, cross_fit, scores
from labelstack.stacking.deciding.decisions import fit_decision
from labelstack.stacking.fold_predictions import out_of_fold
from labelstack.stacking.stackers.catalogue import make_stacker
from labelstack.stages import paths
from labelstack.stages.choosing import choices, validation_folds
from labelstack.stages.cross_fitted import save_cross_fitted
from labelstack.stages.label_sets import save_decision
from labelstack.stages.rows import Targets, label_table, targets
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
    rows, labels : the validation rows and the label table
    fitted : what is cross-fitted of the rows
    scores : by name
    curve : of one threshold for all labels
    digest : SHA-256 of what the fold models have learnt
    test_id : int64 [m], the test images
    """

    rows: Targets
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
    section, models = params.stackers[name], list(params.models)
    rows, labels = targets("validation"), label_table()
    parts = {model: read_predictions(paths.predictions(model, "validation")) for model in models}
    test_parts = {model: read_predictions(paths.predictions(model, "test")) for model in models}
    test_id = test_parts[models[0]].image_id
    folds = validation_folds(params, rows.Y)
    with Engine(params.engine) as engine:
        result = out_of_fold(
            lambda: make_stacker(section),
            assemble_cube(parts, rows.image_id),
            rows.Y,
            folds,
            test_cube=assemble_cube(test_parts, test_id),
            nested=params.folds.nested,
            columns=models,
            work=work,
            map_=None if engine.local else engine.map,
        )
    assert result.test is not None  # there is a test cube
    out = paths.stacker(name)
    result.ensemble.save(out / "folds")
    write_predictions(paths.stacked(name, "oof"), rows.image_id, result.oof)
    write_predictions(paths.stacked(name, "test"), test_id, result.test)
    nested = paths.stacked(name, "nested")
    if result.nested is None:
        nested.unlink(missing_ok=True)  # one of other folds would be taken for theirs
    else:
        write_predictions(nested, rows.image_id, result.nested.transpose(1, 0, 2))
    chosen = choices(params, labels)
    fitted = cross_fit(result.predictions, rows.Y, folds, **chosen)
    save_cross_fitted(paths.cross_fitted(name, stacker=True), rows.image_id, fitted, metric_of(params.metric))
    probability = result.predictions.like_new(folds)
    decision = fit_decision(rows.Y, probability, params.thresholds, params.metric, groups=chosen["groups"], folds=folds)
    save_decision(out / "thresholds.json", labels["label_id"].to_numpy(), decision)
    measured = scores(rows.Y, result.predictions, folds, **chosen, fitted=fitted, decision=decision)
    storage.write_json(paths.METRICS / "stack" / f"{name}.json", {k: round(v, 6) for k, v in measured.items()})
    curve = threshold_curve(params, rows.Y, probability)
    return Stacked(rows, labels, fitted, measured, curve, result.ensemble.digest(), test_id)
