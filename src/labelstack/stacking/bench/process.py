"""Measure one method of the bench; run in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params.second_level_file import SecondLevel
from labelstack.params.stackers import StackerSection, XGBoostStackerSection
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring import bootstrap
from labelstack.scoring.bootstrap import Interval
from labelstack.scoring.metric import Metric, metric_of
from labelstack.stacking.array_checks import check_answers
from labelstack.stacking.bench.cubes import Cube
from labelstack.stacking.bench.generator import generate
from labelstack.stacking.by_group import ByGroup
from labelstack.stacking.crossfit import cross_fit, strategy_scores
from labelstack.stacking.deciding.decisions import Decision, fit_decision, strategies_of
from labelstack.stacking.fold_predictions import FoldPredictions, out_of_fold
from labelstack.stacking.group_worth import group_worth
from labelstack.stacking.second_level import StackedEnsemble
from labelstack.stacking.stackers.construction import make_stacker
from labelstack.stacking.stackers.stacker import Stacker
from labelstack.support.errors import UserError

BEST_MODEL, DEFAULT, REFERENCE = "best_single", "default", "MultiOutputRegressor"
Labels = tuple[NDArray[Any], NDArray[Any] | None]  # cross-fitted, of the rows fitted on; of the test rows


@dataclass
class Row:
    """What was measured of a method; a field is None where there is nothing to measure.

    Attributes
    ----------
    fit_seconds : of all folds; of the default of everything; of the reference time per label × labels × folds
    predict_seconds : of the fold models together, on the test images, or without such on the images fitted on
    peak_bytes : largest resident memory up to the end of the fit, libraries and data included
    cross_fitted, test : scores of label sets by the metric that decides them and its family: samples, micro, macro;
        where rows know one label group each, of probabilities by the metric and basic precision
    interval : bootstrap interval of the primary one, cross-fitted
    faster : how often the fit fits into the reference's
    details : as the method has them: ``weights``, ``strategy``, ``decisions``, ``seconds_per_label``, ``note`` …
    error, labels : why there are no scores, else empty; what is scored, cross-fitted: bool [n, n_labels] or counts
    """

    name: str
    fit_seconds: float | None = None
    predict_seconds: float | None = None
    peak_bytes: int | None = None
    cross_fitted: dict[str, float] | None = None
    interval: Interval | None = None
    test: dict[str, float] | None = None
    faster: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    labels: NDArray[Any] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All but the labels, for JSON."""
        content = vars(self) | {"interval": self.interval and self.interval._asdict()}
        return {name: value for name, value in content.items() if name != "labels"}


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory from before exec
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Bench:
    """What every method is measured on and by."""

    def __init__(self, data: Cube, folds: NDArray[np.int64], settings: SecondLevel) -> None:
        self.data, self.folds, self.settings = data, folds, settings
        self.answers = check_answers(data.labels)
        self.k = int(folds.max()) + 1
        self.new = data.cube if data.test_cube is None else data.test_cube
        self.common: dict[str, Any] = {"thresholds": settings.thresholds, "metric": settings.metric}
        self.asked = data.asked
        if self.asked is not None:
            self.common["asked"] = self.asked
        self.judge = judge_of(data, settings)

    def row(self, name: str, section: StackerSection | None = None, labels: Sequence[int] = ()) -> Row:
        """Measure a method of ``table.methods``, or the reference on some labels, in this process."""
        row = Row(name)
        try:
            self._measure(row, section, list(labels))
        except (UserError, ValueError) as error:
            row.error = str(error)
        except Exception as error:  # the other methods go on, and this one's row says what happened
            traceback.print_exc()
            row.error = f"{type(error).__name__}: {error}"
        return row

    def _measure(self, row: Row, section: StackerSection | None, labels: list[int]) -> None:
        if row.name == REFERENCE:
            return self._reference(row, section, labels)
        if section is not None:
            row.labels, test = self._stacker(row, section)
        elif row.name == DEFAULT:
            row.labels, test = self._second_level(row)
        else:
            row.fit_seconds = row.predict_seconds = 0.0  # nothing is fitted but the decision rule
            row.labels, test = self._base_model(row)
        row.cross_fitted = self._scores(self.answers, row.labels)
        row.interval = bootstrap.interval(self.judge, self.answers, row.labels)
        if test is not None and self.data.test_labels is not None:
            row.test = self._scores(check_answers(self.data.test_labels), test)

    def _scores(self, answers: NDArray[np.bool_], labels: NDArray[np.bool_]) -> dict[str, float]:
        family = [each for each in self.judge.family if each.wants == self.judge.wants]
        return {each.short: each.score(answers, labels) for each in family}

    def _rule(self, P: NDArray[np.float32], strategy: str | None = None) -> Decision:
        return fit_decision(self.data.labels, P, strategy=strategy, folds=self.folds, **_as_settings(self.common))

    def _decided(self, P: FoldPredictions, rows: NDArray[np.float32], test: NDArray[np.float32]) -> Labels:
        """Labels of the rows by rules chosen on other folds, and of the test by the rule chosen on all ``rows``."""
        fitted = cross_fit(P, self.data.labels, self.folds, **self.common).given(self.judge)
        return fitted, None if self.data.test_cube is None else self._given(test, self._rule(rows))

    def _given(self, P: NDArray[np.float32], rule: Decision) -> NDArray[Any]:
        """What is scored of test rows with probabilities [m, n_labels]."""
        if self.data.test_asked is not None:
            P = self.data.test_asked.within(P)
        assert self.data.test_labels is not None
        return self.judge.given(check_answers(self.data.test_labels), rule.decide(P), P, self.data.test_asked)

    def _base_model(self, row: Row) -> Labels:
        """A base model as it is, or the one that is best on the other folds, at its best single threshold there."""
        views = self.data.cube.swapaxes(0, 1)
        if row.name != BEST_MODEL:
            m = self.data.models.index(row.name)
            return self._decided(FoldPredictions(views[m]), views[m], self.new[:, m])
        at_global = self.common | {"thresholds": ThresholdsSection(strategy="global")}
        by_global = [cross_fit(view, self.answers, self.folds, **at_global).given(self.judge) for view in views]

        def best(rows: NDArray[np.bool_]) -> int:
            return int(np.argmax([self.judge.score(self.answers[rows], given[rows]) for given in by_global]))

        m = best(self.folds >= 0)
        row.details["note"] = self.data.models[m]
        of_folds = views[[best(self.folds != fold) for fold in range(self.k)]]
        return self._decided(FoldPredictions(views[m], of_folds), views[m], self.new[:, m])

    def _stacker(self, row: Row, section: StackerSection) -> Labels:
        """A stacker alone: trained fold by fold (and, nested, without each pair of folds)."""
        seconds: list[float] = []

        def noting_time() -> Stacker:
            stacker = self._made(section)
            fit = stacker.fit
            stacker.fit = lambda *args, **options: seconds.append(_timed(fit, *args, **options)[0])  # type: ignore
            return stacker

        self._warm_up(section)
        arrays = (self.data.cube, self.data.labels, self.folds)
        result = out_of_fold(noting_time, *arrays, nested=self.settings.folds.nested)
        row.fit_seconds, row.peak_bytes = sum(seconds[: self.k]), peak_memory()
        row.details["nested_seconds"] = sum(seconds[self.k :])
        row.predict_seconds, new = _timed(result.ensemble.predict_proba, self.new)
        return self._decided(result.predictions, result.predictions.like_new(self.folds), new)

    def _made(self, section: StackerSection) -> Stacker:
        if self.asked is None:
            return make_stacker(section)
        made: Stacker = ByGroup.of(section, self.asked.group)
        return made

    def _warm_up(self, section: StackerSection) -> None:
        """Load what a stacker imports when it first fits: that is not the fit's time."""
        small = generate(12, self.data.cube.shape[1], 2, n_test=0)
        with contextlib.suppress(Exception):  # what is wrong with the stacker, its real fit will say
            make_stacker(section).fit(small.cube, small.labels).predict_proba(small.cube)

    def _second_level(self, row: Row) -> Labels:
        """All stackers, the blend and the decision rule, as ``StackedEnsemble`` makes them."""
        settings, data = self.settings, self.data
        for section in settings.stackers.values():
            self._warm_up(section)
        ensemble = StackedEnsemble(
            {name: make_stacker(section) for name, section in settings.stackers.items()},
            blend=settings.blend,
            nested=settings.folds.nested,
            model_names=data.models,
            thresholds=settings.thresholds,
            metric=settings.metric,
        )
        row.fit_seconds, _ = _timed(ensemble.fit, data.cube, data.labels, folds=self.folds, asked=self.asked)
        row.peak_bytes, blended = peak_memory(), ensemble.blended_
        seconds, new = _timed(ensemble.predict_proba, self.new)
        more, _ = _timed(blended.decision.decide, new)
        row.predict_seconds = seconds + more
        row.details["weights"] = {name: weight for name, weight in blended.weights.items() if weight}
        row.details["strategy"] = blended.decision.strategy
        test = None if data.test_cube is None else self._given(new, blended.decision)
        if self.asked is not None:
            members = {name: ensemble.predictions_[name] for name in blended.weights}
            by = (blended.cross_fitted, data.labels, self.folds, settings.blend, settings.thresholds)
            row.details["worth"] = group_worth(members, *by)
            return blended.cross_fitted.given(self.judge), test
        every = strategies_of(settings.thresholds)
        strategies = [name for name in every if name != "per_group"]  # a cube knows no groups of labels
        members = {name: ensemble.predictions_[name] for name in blended.weights}
        honest = (blended.cross_fitted, data.labels, self.folds)
        decisions = strategy_scores(members, *honest, strategies=strategies, **self.common)
        if data.test_labels is not None:
            answers = check_answers(data.test_labels)
            for name in strategies:
                found = self._scores(answers, self._rule(blended.probability, name).decide(new))
                decisions[name] |= {f"test {short}": score for short, score in found.items()}
        row.details["decisions"] = decisions
        return blended.cross_fitted.given(self.judge), test

    def _reference(self, row: Row, section: Any, labels: list[int]) -> None:
        """scikit-learn's estimator on the flattened cube: some labels of the first fold, reckoned up to all."""
        train, share = self.folds != 0, len(labels) / (self.data.labels.shape[1] * self.k)
        flat, targets = self.data.cube.reshape(len(train), -1)[train], self.data.labels[train][:, labels]
        multi_output(section).fit(np.eye(4, 2), np.eye(4, 1))  # loads and starts what it needs
        seconds, model = _timed(multi_output(section).fit, flat, targets)
        row.fit_seconds, row.peak_bytes = seconds / share, peak_memory()
        row.predict_seconds = _timed(model.predict, self.new.reshape(len(self.new), -1))[0] / share
        row.details |= {"seconds_per_label": seconds / len(labels), "labels": labels}


def judge_of(data: Cube, settings: SecondLevel) -> Metric:
    """What methods are compared by on a cube: label sets, or where rows know one label group each the metric itself."""
    metric = metric_of(settings.metric)
    return metric if data.asked is not None else metric.decides


def _as_settings(common: dict[str, Any]) -> dict[str, Any]:
    return {"settings" if key == "thresholds" else key: value for key, value in common.items()}


def _timed(work: Callable[..., Any], *args: Any, **options: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work(*args, **options)
    return time.perf_counter() - start, result


def multi_output(section: XGBoostStackerSection) -> Any:
    """scikit-learn's estimator with the trees of an XGBoost section, but all features and all threads."""
    import xgboost
    from sklearn.multioutput import MultiOutputRegressor

    shared = {"n_estimators", "max_depth", "learning_rate", "min_child_weight", "reg_lambda", "device"}
    trees = xgboost.XGBRegressor(objective="binary:logistic", tree_method="hist", **section.model_dump(include=shared))
    return MultiOutputRegressor(trees)
