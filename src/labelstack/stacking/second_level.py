"""The whole second level on plain arrays: stackers, blend and decision rule in one estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.params.second_level_file import default_second_level
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring.attribute_rows import AttributeRows
from labelstack.stacking.array_checks import check_cube, check_folds, check_targets
from labelstack.stacking.by_group import ByGroup, said_of_groups
from labelstack.stacking.crossfit import Blended, fit_blend, scores
from labelstack.stacking.fold_predictions import FoldPredictions, out_of_fold
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.stackers.construction import make_stacker
from labelstack.stacking.stackers.fold_ensemble import FoldEnsemble
from labelstack.stacking.stackers.stacker import Stacker
from labelstack.support.progress import bar


class StackedEnsemble(BaseEstimator):  # type: ignore[misc]
    """Stackers trained fold by fold, blended, with a decision rule; everything chosen is scored cross-fitted.

    Parameters
    ----------
    stackers : name → unfitted stacker; None: the shipped ones
    blend, thresholds, metric : sections of params.yaml; None: the defaults
    k, seed : of the folds
    nested : also train models without each pair of folds, so that choices are scored without the rows they saw; about
        2.5 times the work
    model_names : names of the cube's models, to blend them beside the stackers; None: ``model_0``, ``model_1``, …

    Attributes
    ----------
    scores_ : F-scores of the ensemble at the fixed threshold, cross-fitted and in sample
    table_ : name → the same for every stacker and model
    blended_ : weights, decision rule, cross-fitted probabilities and labels
    folds_ : fold of each row
    """

    def __init__(
        self,
        stackers: Mapping[str, Stacker] | None = None,
        *,
        blend: BlendSection | None = None,
        thresholds: ThresholdsSection | None = None,
        metric: MetricSection | None = None,
        k: int = 5,
        seed: int = 0,
        nested: bool = True,
        model_names: Sequence[str] | None = None,
    ) -> None:
        self.stackers = stackers
        self.blend = blend
        self.thresholds = thresholds
        self.metric = metric
        self.k = k
        self.seed = seed
        self.nested = nested
        self.model_names = model_names

    def fit(
        self,
        cube: ArrayLike,
        Y: ArrayLike,
        *,
        folds: ArrayLike | None = None,
        groups: Sequence[str] | None = None,
        asked: AttributeRows | None = None,
    ) -> StackedEnsemble:
        """Train on a cube [n, n_models, n_labels] and labels 0/1 or soft [n, n_labels].

        ``folds`` int [n] are used instead of stratified ones; ``groups`` names the group of each label. ``asked`` says
        which label group each row knows, where it knows one alone: then every group is stacked, blended and decided on
        its own, and the cube may hold NaN where a model says nothing of a group.
        Raises ``ValueError`` that names the argument on input that does not fit.
        """
        self._of_groups = None if asked is None else asked.groups
        values = self._checked(cube)
        targets = check_targets(Y, (values.shape[0], values.shape[2]))
        self.shape_ = (values.shape[1], values.shape[2])
        self.names_ = list(self.model_names or (f"model_{i}" for i in range(values.shape[1])))
        if len(self.names_) != values.shape[1] or len(set(self.names_)) < len(self.names_):
            raise ValueError(f"model_names must be {values.shape[1]} different names, not {self.names_}")
        default = default_second_level()
        settings = self.blend or default.blend
        sections = {name: make_stacker(section) for name, section in default.stackers.items()}
        stackers = dict(self.stackers) if self.stackers is not None else sections
        both = [name for name in self.names_ if name in stackers]
        if both:
            raise ValueError(f"model_names and stackers share the name(s) {', '.join(both)}: rename one")
        self.folds_ = assign_folds(targets, self.k, self.seed) if folds is None else check_folds(folds, len(values))
        self.ensembles_: dict[str, FoldEnsemble] = {}
        predictions: dict[str, FoldPredictions] = {}
        for name, stacker in bar(stackers.items(), desc="second level", unit="stacker"):
            if asked is not None:
                stacker = ByGroup.around(stacker, asked.group)
            result = out_of_fold(partial(_fresh, stacker), values, targets, self.folds_, nested=self.nested)
            self.ensembles_[name], predictions[name] = result.ensemble, result.predictions
        predictions |= {name: FoldPredictions(values[:, i]) for i, name in enumerate(self.names_)}
        unknown = [name for name in settings.members if name not in predictions]
        if unknown:
            raise ValueError(f"blend.members {', '.join(unknown)} unknown (there are: {', '.join(predictions)})")
        self.predictions_ = predictions
        self.targets_ = targets
        chosen = {name: predictions[name] for name in settings.members or predictions}
        self._metric, self._thresholds = self.metric or default.metric, self.thresholds or default.thresholds
        self.groups_ = groups
        self.blended_: Blended = fit_blend(
            chosen,
            targets,
            self.folds_,
            blend_params=settings,
            metric=self._metric,
            thresholds=self._thresholds,
            groups=groups,
            asked=asked,
        )
        self._asked = asked
        self.scores_ = scores(
            targets,
            self.blended_.probability,
            self.folds_,
            self._metric,
            self._thresholds,
            groups=groups,
            asked=asked,
            fitted=self.blended_.cross_fitted,
            decision=self.blended_.decision,
        )
        return self

    @property
    def table_(self) -> dict[str, dict[str, float]]:
        """name → scores of every stacker and model, cross-fitted by the same rules; computed when asked for."""
        check_is_fitted(self, "blended_")
        return {
            name: scores(
                self.targets_,
                member,
                self.folds_,
                self._metric,
                self._thresholds,
                groups=self.groups_,
                asked=self._asked,
            )
            for name, member in self.predictions_.items()
        }

    def predict_proba(self, cube: ArrayLike) -> NDArray[np.float32]:
        """Blended probabilities float32 [n, n_labels] for a cube with the models and labels of the fit."""
        check_is_fitted(self, "blended_")
        values = self._checked(cube, fitted=self.shape_)
        parts: dict[str, NDArray[np.float32]] = {}
        for name, weight in self.blended_.weights.items():
            if weight and name in self.ensembles_:
                parts[name] = self.ensembles_[name].predict_proba(values)
            elif weight:
                parts[name] = values[:, self.names_.index(name)]
        return self.blended_.mix(parts)

    def _checked(self, cube: ArrayLike, fitted: tuple[int, int] | None = None) -> NDArray[np.float32]:
        if self._of_groups is None:
            return check_cube(cube, fitted=fitted)
        return said_of_groups(cube, self._of_groups, fitted=fitted)

    def predict(self, cube: ArrayLike) -> NDArray[np.bool_]:
        """Labels bool [n, n_labels]."""
        return self.blended_.decision.decide(self.predict_proba(cube))


def _fresh(stacker: Stacker) -> Stacker:
    """An unfitted copy."""
    copy: Stacker = clone(stacker)  # type: ignore[type-var]
    return copy
