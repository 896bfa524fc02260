"""Second level: folds, stackers, blending and thresholds; usable without the pipeline.

>>> folds = assign_folds(Y, k=5, seed=0)                                          # doctest: +SKIP
>>> result = out_of_fold(lambda: XGBoostStacker(features="own"), cube, Y, folds)  # doctest: +SKIP
>>> t = thresholds.choose(Y, result.oof, "per_label")                             # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelstack.stacking.blending import blend, fit_weights, search_weights
    from labelstack.stacking.crossfit import cross_fit, fit_blend, scores, strategy_scores
    from labelstack.stacking.deciding import thresholds
    from labelstack.stacking.deciding.decisions import Decision, fit_decision
    from labelstack.stacking.fold_predictions import FoldPredictions, OutOfFold, out_of_fold
    from labelstack.stacking.folds import assign_folds
    from labelstack.stacking.second_level import StackedEnsemble
    from labelstack.stacking.stackers.cnn import CNNStacker
    from labelstack.stacking.stackers.construction import load_stacker, make_stacker
    from labelstack.stacking.stackers.fold_ensemble import FoldEnsemble
    from labelstack.stacking.stackers.stacker import Stacker
    from labelstack.stacking.stackers.xgb import XGBoostStacker

__all__ = [
    "CNNStacker",
    "Decision",
    "FoldEnsemble",
    "FoldPredictions",
    "OutOfFold",
    "StackedEnsemble",
    "Stacker",
    "XGBoostStacker",
    "assign_folds",
    "blend",
    "cross_fit",
    "fit_blend",
    "fit_decision",
    "fit_weights",
    "load_stacker",
    "make_stacker",
    "out_of_fold",
    "scores",
    "search_weights",
    "strategy_scores",
    "thresholds",
]

# scikit-learn, SciPy and XGBoost cost seconds, and most of what imports a file from here needs none of them.
_FILES = {
    "blend": "blending",
    "fit_weights": "blending",
    "search_weights": "blending",
    "CNNStacker": "stackers.cnn",
    "cross_fit": "crossfit",
    "fit_blend": "crossfit",
    "scores": "crossfit",
    "strategy_scores": "crossfit",
    "Decision": "deciding.decisions",
    "fit_decision": "deciding.decisions",
    "FoldEnsemble": "stackers.fold_ensemble",
    "assign_folds": "folds",
    "FoldPredictions": "fold_predictions",
    "OutOfFold": "fold_predictions",
    "out_of_fold": "fold_predictions",
    "StackedEnsemble": "second_level",
    "Stacker": "stackers.stacker",
    "load_stacker": "stackers.construction",
    "make_stacker": "stackers.construction",
    "XGBoostStacker": "stackers.xgb",
    "thresholds": "deciding",
}


def __getattr__(name: str) -> Any:
    """What the package hands out, imported when it is first asked for."""
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "thresholds":
        return importlib.import_module(f"{__name__}.{_FILES[name]}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)
