"""Second level: folds, stackers, blending and thresholds; usable without the pipeline.

>>> folds = assign_folds(Y, k=5, seed=0)                                          # doctest: +SKIP
>>> result = out_of_fold(lambda: XGBoostStacker(features="own"), cube, Y, folds)  # doctest: +SKIP
>>> t = thresholds.choose(Y, result.oof, "per_label")                             # doctest: +SKIP
"""

from labelstack.stacking import thresholds
from labelstack.stacking.blend import blend, search_weights
from labelstack.stacking.cnn import CNNStacker
from labelstack.stacking.crossfit import cross_fitted_blend, cross_fitted_labels, scores
from labelstack.stacking.fold_ensemble import FoldEnsemble
from labelstack.stacking.folds import OutOfFold, assign_folds, out_of_fold
from labelstack.stacking.stackers import Stacker, load_stacker, make_stacker
from labelstack.stacking.xgb import XGBoostStacker

__all__ = [
    "CNNStacker",
    "FoldEnsemble",
    "OutOfFold",
    "Stacker",
    "XGBoostStacker",
    "assign_folds",
    "blend",
    "cross_fitted_blend",
    "cross_fitted_labels",
    "load_stacker",
    "make_stacker",
    "out_of_fold",
    "scores",
    "search_weights",
    "thresholds",
]
