"""Second level: folds, stackers, blending and thresholds; usable without the pipeline.

>>> folds = assign_folds(Y, k=5, seed=0)                                          # doctest: +SKIP
>>> result = out_of_fold(lambda: XGBoostStacker(features="own"), cube, Y, folds)  # doctest: +SKIP
>>> t = thresholds.choose(Y, result.oof, "per_label")                             # doctest: +SKIP
"""

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
