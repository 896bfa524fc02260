"""Second level: folds, stackers, blending and thresholds; usable without the pipeline.

>>> folds = assign_folds(Y, k=5, seed=0)                                          # doctest: +SKIP
>>> result = out_of_fold(lambda: XGBoostStacker(features="own"), cube, Y, folds)  # doctest: +SKIP
>>> t = thresholds.choose(Y, result.oof, "per_label")                             # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelstack.stacking import thresholds
    from labelstack.stacking.blend import blend, fit_weights, search_weights
    from labelstack.stacking.cnn import CNNStacker
    from labelstack.stacking.crossfit import cross_fit, fit_blend, scores, strategy_scores
    from labelstack.stacking.decisions import Decision, fit_decision
    from labelstack.stacking.fold_ensemble import FoldEnsemble
    from labelstack.stacking.folds import assign_folds
    from labelstack.stacking.out_of_fold import FoldPredictions, OutOfFold, out_of_fold
    from labelstack.stacking.second_level import StackedEnsemble
    from labelstack.stacking.stackers import Stacker, load_stacker, make_stacker
    from labelstack.stacking.xgb import XGBoostStacker

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

# Who needs decision rules alone loads no stacker, and a change in a stacker is none to them.
_HOMES = {
    "blend": ("blend", "fit_weights", "search_weights"),
    "cnn": ("CNNStacker",),
    "crossfit": ("cross_fit", "fit_blend", "scores", "strategy_scores"),
    "decisions": ("Decision", "fit_decision"),
    "fold_ensemble": ("FoldEnsemble",),
    "folds": ("assign_folds",),
    "out_of_fold": ("FoldPredictions", "OutOfFold", "out_of_fold"),
    "second_level": ("StackedEnsemble",),
    "stackers": ("Stacker", "load_stacker", "make_stacker"),
    "thresholds": (),
    "xgb": ("XGBoostStacker",),
}


def __getattr__(name: str) -> Any:
    """Names of this room, imported when they are first asked for."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    if name in _HOMES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
