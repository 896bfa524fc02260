"""`labelstack blend`: every way of finding the blend's weights side by side, and those of a file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from labelstack.params import load_params
from labelstack.params.blend import BlendSection, Method
from labelstack.report.figures import plain
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import metric_of
from labelstack.stacking.blend_file import read_blend_file, weights_by_name
from labelstack.stacking.crossfit import Blended, fit_blend
from labelstack.stages.choosing import choices
from labelstack.stages.fold_files import read_stacking
from labelstack.stages.members import blended, oof_files
from labelstack.stages.rows import label_table
from labelstack.stages.work.fit_blend import fold_predictions


def run(file: Path | None = None) -> None:
    """Print what each method of `blend.method` scores on the rows of the second level; nothing is written.

    Parameters
    ----------
    file : a blend written by the stage `blend` (models/ensemble/blend.yml) or published in that form; its weights are
        divided by their sum, which changes no label set that thresholds of their own sum decide
    """
    params = load_params()
    given = None
    if file is not None:
        known = {one.name: oof_files(one) for one in blended(params) if one.name not in params.flattered}
        given = weights_by_name(read_blend_file(file), known, file)
    stacking = read_stacking(params)
    rows, folds = stacking.rows, stacking.folds
    everyone, chosen = (
        fold_predictions(params, rows.row_id, groups=rows.known is not None),
        choices(params, label_table(), rows),
    )
    members = {name: one for name, one in everyone.items() if name not in params.flattered}
    judge = metric_of(params.metric)
    table: dict[str, dict[str, Any]] = {}

    def row(name: str, seconds: float, mixed: Blended) -> None:
        fitted = mixed.cross_fitted.given(judge)
        bounds = bootstrap.interval(judge, rows.Y, fitted)
        table[name] = {
            judge.cross_fitted: judge.score(rows.Y, fitted),
            "low": bounds.low,
            "high": bounds.high,
            "seconds": round(seconds, 1),
            "weights": _told(mixed.weights),
        }

    for method in get_args(Method):
        if method == "nelder_mead" and params.thresholds.exclusive:
            continue
        section = BlendSection(method=method, step=params.blend.step)
        start = time.perf_counter()
        mixed = fit_blend(members, rows.Y, folds, blend_params=section, **chosen)
        here = " (params.yaml)" if method == params.blend.method else ""
        row(method + here, time.perf_counter() - start, mixed)
    if given is not None and file is not None:
        whole = sum(given.values())
        start = time.perf_counter()
        scaled = {name: given.get(name, 0.0) / whole for name in members}
        mixed = fit_blend(members, rows.Y, folds, blend_params=params.blend, weights=scaled, **chosen)
        row(f"{plain(file.name, 40)} (sum {whole:.5f})", time.perf_counter() - start, mixed)
    print(
        f"{len(rows):,} {rows.split} images, {len(members)} members; {judge.title}, cross-fitted: weights and decision"
    )
    print("rule of each fold by the other folds, but the weights of a file, which may have been chosen on these rows")
    print(pd.DataFrame(table).T.to_string(float_format="{:.4f}".format))


def _told(weights: Mapping[str, float]) -> str:
    shown = sorted(((weight, name) for name, weight in weights.items() if weight), reverse=True)
    return ", ".join(f"{plain(name, 24)} {weight:.3f}" for weight, name in shown)
