"""What a kernel falls back on where time is short: smaller blends, fitted out of fold in the workspace of the ensemble.

In this order: each network is shown the first of its test-time views alone; then stackers and the base model of the
smallest weight are left out, then the next one, until one base model is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.ensemble.folder import Spec
from labelstack.ensemble.recompute import Members, looks_of
from labelstack.kernel.smaller import first_views
from labelstack.params import Params
from labelstack.predictions import Predictions
from labelstack.scoring.metric import metric_of
from labelstack.stacking.crossfit import Blended, fit_blend
from labelstack.stacking.mixing import fit_mix
from labelstack.stages import paths
from labelstack.stages.choosing import asked_of, choices
from labelstack.stages.fold_files import Stacking, read_asked, read_stacking
from labelstack.stages.members import THE_BLEND, view_file
from labelstack.stages.rows import label_table
from labelstack.support.progress import bar
from labelstack.support.storage import sha256

Floats = NDArray[np.float32]


def made_here(ensemble: Path) -> bool:
    """Whether the stages whose outputs lie here made this ensemble's blend and decision rule."""
    pairs = ((THE_BLEND.learnt, "blend.json"), (THE_BLEND.rule, "thresholds.json"))
    return all(here.is_file() and sha256(here) == sha256(ensemble / name) for here, name in pairs)


def fitted_steps(params: Params, ensemble: Path, spec: Spec) -> list[dict[str, Any]]:
    """Smaller blends from large to small: ``weights``, ``decision`` as in thresholds.json, and ``score``.

    Each is fitted to predictions of the stacking rows by networks that did not learn from them, shown one view.
    ``score`` is the cross-fitted one by the primary metric.

    Raises
    ------
    UserError
        When outputs of `split` or `download`, which are learned from here, do not lie here.
    """
    stacking = read_stacking(params)
    spec = first_views(spec)
    members = Members.of(ensemble, spec)
    honest = [name for name in spec.needed_models if name not in spec.students]  # these alone can be fitted out of fold
    if not honest:
        return []
    oof = {name: _one_view(members, spec, stacking, name) for name in bar(honest, desc="one view")}
    everyone: dict[str, Floats] = dict(oof)
    if spec.needed_stackers:
        cube = np.stack([oof[name] for name in spec.cube], axis=1)
        everyone |= {name: _stacked(ensemble, name, cube, stacking.folds) for name in spec.needed_stackers}
    steps = [_fit(params, stacking, {name: everyone[name] for name in spec.blended if name in everyone})]
    left = dict(oof)
    while len(left) > 1:
        weights = _weights(params, stacking, left)
        least = min(reversed(left), key=lambda name: weights[name])
        left = {name: p for name, p in left.items() if name != least}
        steps.append(_fit(params, stacking, left))
    return steps


def _one_view(members: Members, spec: Spec, stacking: Stacking, name: str) -> Floats:
    """Out-of-fold predictions of a model's networks, float32 [n, n_labels], rows as those of the second level."""
    from labelstack.images.loader import shown_batches
    from labelstack.images.view_table import read_view

    ids, rows = list[NDArray[np.int64]](), list[Floats]()
    for fold, view in spec.views[name].items():
        asked = read_asked(fold).oof
        boxes = read_view(view_file(name), asked.split) if name in spec.second_round else None
        batches = shown_batches(
            paths.shards(asked.split), asked.row_id, looks_of(spec, view), spec.settings.batch_size, boxes
        )
        image_id, probability = members.network(name, fold)(batches)
        ids.append(image_id)
        rows.append(probability)
    return Predictions(np.concatenate(ids), np.concatenate(rows)).rows_of(stacking.rows.row_id)


def _stacked(ensemble: Path, name: str, cube: Floats, folds: NDArray[np.int64]) -> Floats:
    """A stacker's predictions, those of each fold's rows by the model that did not learn from them."""
    from labelstack.stacking.stackers.construction import load_fold_ensemble

    given = np.empty((cube.shape[0], cube.shape[2]), np.float32)
    for fold, stacker in enumerate(load_fold_ensemble(ensemble / "stackers" / name).stackers):
        given[folds == fold] = stacker.predict_proba(cube[folds == fold])
    return given


def _weights(params: Params, stacking: Stacking, members: Mapping[str, Floats]) -> dict[str, float]:
    asked, Y = asked_of(stacking.rows, label_table()), stacking.rows.Y
    if asked is not None:
        members = {name: asked.within(P) for name, P in members.items()}
    by: dict[str, Any] = {"folds": stacking.folds, "exclusive": params.thresholds.exclusive, "asked": asked}
    return fit_mix(members, Y, params.blend, params.metric, **by).weights


def _fit(params: Params, stacking: Stacking, members: Mapping[str, Floats]) -> dict[str, Any]:
    chosen = choices(params, label_table(), stacking.rows)
    Y = stacking.rows.Y
    mixed: Blended = fit_blend(members, Y, stacking.folds, blend_params=params.blend, **chosen)
    metric = metric_of(params.metric)
    score = metric.score(Y, mixed.cross_fitted.given(metric))
    return mixed.mix.to_dict() | {"decision": mixed.decision.to_dict(), "score": round(float(score), 6)}
