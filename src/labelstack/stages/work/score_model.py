"""One base or second-round model: what its networks predict put together, its decision rule and scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labelstack.params import Params
from labelstack.predictions import Predictions, answered, known_rows, read_predictions, write_predictions, writing
from labelstack.scoring.metric import metric_of
from labelstack.stacking.cells import row_blocks
from labelstack.stacking.crossfit import CrossFitted, cross_fit, scores
from labelstack.stacking.deciding.decisions import fit_decision
from labelstack.stacking.stackers.averaging import mean_of
from labelstack.stages.choosing import choices
from labelstack.stages.cross_fitted import save_cross_fitted
from labelstack.stages.fold_files import read_stacking
from labelstack.stages.label_sets import save_decision
from labelstack.stages.members import Member
from labelstack.stages.rows import Rows, label_table
from labelstack.support import storage
from labelstack.support.dtypes import Dtype

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ScoredModel:
    """What the stacking rows say of a model.

    Attributes
    ----------
    rows, labels : the stacking rows and the label table
    fitted : what is cross-fitted of the rows
    scores : by name
    """

    rows: Rows
    labels: pd.DataFrame
    fitted: CrossFitted
    scores: dict[str, float]


def compute(params: Params, own: Member) -> ScoredModel:
    """Write a model's predictions, its decision rule, its scores and its networks' curves.

    Every stacking row has the prediction of the network that did not learn from it; test and audit rows have the mean
    of all networks.

    Raises
    ------
    UserError
        When a network has not predicted.
    """
    stacking, labels = read_stacking(params), label_table()
    rows, folds = stacking.rows, stacking.folds
    oof = _parts(own, "oof")
    whole = Predictions(
        np.concatenate([part.image_id for part in oof]), np.concatenate([part.probability for part in oof])
    )
    del oof
    some, dtype = bool(params.groups_of(own.name)), params.prediction.dtype
    write_predictions(own.oof, rows.row_id, whole.rows_of(rows.row_id), dtype=dtype, unknown=some)
    P = read_predictions(own.oof).probability  # what is chosen goes by what later stages read
    _write_mean(own, "test", dtype, some)
    if (own.networks[0].predictions / "audit.npy").exists():
        _write_mean(own, "audit", dtype, some)
    else:
        own.audit.unlink(missing_ok=True)  # of other params
    every, shown = rows.row_id, answered(P) if some else None
    if shown is not None:  # scored on the rows of its label groups
        rows, folds, P = rows.where(shown), folds[shown], np.nan_to_num(P[shown])
    chosen = choices(params, labels, rows)
    fitted = cross_fit(P, rows.Y, folds, **chosen)
    save_cross_fitted(own.cross_fitted, every, fitted, metric_of(params.metric), shown)
    test = known_rows(read_predictions(own.test)).probability
    new = test if params.thresholds.by_new_images else None
    by = {"groups": chosen["groups"], "asked": chosen["asked"], "folds": folds, "new": new}
    if chosen["asked"] is not None:
        P = chosen["asked"].within(P)
    decision = fit_decision(rows.Y, P, chosen["thresholds"], chosen["metric"], **by)
    measured = scores(rows.Y, P, folds, **chosen, fitted=fitted, decision=decision)
    save_decision(own.rule, labels["label_id"].to_numpy(), decision)
    storage.write_json(own.scores, {k: round(v, 6) for k, v in measured.items()})
    _write_curves(own)
    return ScoredModel(rows, labels, fitted, measured)


def _write_curves(own: Member) -> None:
    """For `dvc plots` and git, without the seconds; a stage with files outside of the cache cannot be had from afar."""
    import pandas as pd

    with storage.replacing_dir(own.curves) as temporary:
        for network in own.networks:
            curve = pd.read_csv(network.history, dtype=str, keep_default_na=False).drop(columns="seconds")
            curve.to_csv(temporary / f"{network.fold}.csv", index=False)


def _parts(own: Member, name: str) -> list[Predictions]:
    return [read_predictions(network.predictions / f"{name}.npy") for network in own.networks]


def _write_mean(own: Member, name: str, dtype: Dtype, unknown: bool) -> None:
    parts = _parts(own, name)
    image_id, shape = parts[0].image_id, parts[0].shape
    networks = [part.matrix(part.places_of(image_id)) for part in parts]
    with writing(own.predictions / f"{name}.npy", shape, dtype=dtype, unknown=unknown) as add:
        for rows in row_blocks(shape[0], shape[1]):
            add(image_id[rows], mean_of([network[rows] for network in networks]))
