"""Measure one method of the bench; run in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.params.metric import MetricSection
from labelstack.params.second_level_file import SecondLevel
from labelstack.params.stackers import StackerSection, XGBoostStackerSection, section_of
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring.metric import metric_of
from labelstack.stacking.array_checks import check_answers
from labelstack.stacking.bench.cubes import Cube
from labelstack.stacking.bench.generator import generate
from labelstack.stacking.crossfit import cross_fit, strategy_scores
from labelstack.stacking.deciding.decisions import STRATEGIES, fit_decision
from labelstack.stacking.fold_predictions import FoldPredictions, out_of_fold
from labelstack.stacking.second_level import StackedEnsemble
from labelstack.stacking.stackers.construction import make_stacker
from labelstack.stacking.stackers.stacker import Stacker
from labelstack.support.errors import UserError
from labelstack.support.storage import read_json, write_json

Labels = dict[str, NDArray[np.bool_]]  # "fitted": cross-fitted, of the rows fitted on; "test": of the test rows
Measured = tuple[dict[str, Any], Labels]


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory from before exec
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


class Timed:
    """A stacker that notes how long each of its fits takes, in seconds."""

    def __init__(self, stacker: Stacker, seconds: list[float]) -> None:
        self.stacker, self.seconds = stacker, seconds

    def fit(self, cube: ArrayLike, Y: ArrayLike, *, progress: str = "") -> Timed:
        """Fit the stacker."""
        start = time.perf_counter()
        self.stacker.fit(cube, Y, progress=progress)
        self.seconds.append(time.perf_counter() - start)
        return self

    def predict_proba(self, cube: ArrayLike) -> NDArray[np.float32]:
        """What the stacker predicts."""
        return self.stacker.predict_proba(cube)


class Bench:
    """What every method is measured on and by."""

    def __init__(self, data: Cube, folds: NDArray[np.int64], settings: SecondLevel) -> None:
        self.data, self.folds, self.settings = data, folds, settings
        self.k = int(folds.max()) + 1
        self.answers = check_answers(data.labels)
        self.new = data.cube if data.test_cube is None else data.test_cube

    def decided(self, P: FoldPredictions, test: NDArray[np.float32] | None) -> Labels:
        """Labels of the rows by rules chosen on other folds, and of the test by the rule chosen on all rows."""
        metric, thresholds = self.settings.metric, self.settings.thresholds
        fitted = cross_fit(P, self.data.labels, self.folds, metric=metric, thresholds=thresholds)
        labels: Labels = {"fitted": fitted.labels}
        if test is not None:
            rows = P.like_new(self.folds)
            rule = fit_decision(self.data.labels, rows, thresholds, metric, folds=self.folds)
            labels["test"] = rule.decide(test)
        return labels

    def model(self, m: int) -> Measured:
        """A base model as it is; nothing is fitted but the decision rule."""
        test = None if self.data.test_cube is None else self.data.test_cube[:, m]
        labels = self.decided(FoldPredictions(self.data.cube[:, m]), test)
        return {"fit_seconds": 0.0, "predict_seconds": 0.0}, labels

    def best_model(self) -> Measured:
        """The base model that is best on the other folds, at its best single threshold there."""
        metric, n_models = self.settings.metric, self.data.cube.shape[1]
        at_global = ThresholdsSection(strategy="global")
        by_global = [
            cross_fit(self.data.cube[:, m], self.answers, self.folds, metric=metric, thresholds=at_global).labels
            for m in range(n_models)
        ]

        judge = metric_of(metric).decides

        def best(rows: NDArray[np.bool_]) -> int:
            return int(np.argmax([judge.score(self.answers[rows], labels[rows]) for labels in by_global]))

        chosen = best(np.ones(len(self.answers), bool))
        of_fold = [best(self.folds != fold) for fold in range(self.k)]
        measured, labels = self.model(chosen)
        for other in {m for m in of_fold if m != chosen}:
            rows = np.isin(self.folds, [fold for fold in range(self.k) if of_fold[fold] == other])
            labels["fitted"][rows] = self.decided(FoldPredictions(self.data.cube[:, other]), None)["fitted"][rows]
        return measured | {"note": self.data.models[chosen]}, labels

    def stacker(self, section: StackerSection) -> Measured:
        """A stacker alone: trained fold by fold (and, nested, without each pair of folds)."""
        self.warm_up(section)
        seconds: list[float] = []
        result = out_of_fold(
            lambda: Timed(make_stacker(section), seconds),  # type: ignore[arg-type, return-value]
            self.data.cube,
            self.data.labels,
            self.folds,
            nested=self.settings.folds.nested,
        )
        peak = peak_memory()
        start = time.perf_counter()
        new = result.ensemble.predict_proba(self.new)
        measured = {
            "fit_seconds": sum(seconds[: self.k]),
            "predict_seconds": time.perf_counter() - start,
            "peak_bytes": peak,
            "nested_seconds": sum(seconds[self.k :]),
        }
        return measured, self.decided(result.predictions, None if self.data.test_cube is None else new)

    def warm_up(self, section: StackerSection) -> None:
        """Load what a stacker imports when it first fits: that is not the fit's time."""
        small = generate(12, self.data.cube.shape[1], 2, n_test=0)
        with contextlib.suppress(Exception):  # what is wrong with the stacker, its real fit will say
            make_stacker(section).fit(small.cube, small.labels).predict_proba(small.cube)

    def second_level(self) -> Measured:
        """All stackers, the blend and the decision rule, as ``StackedEnsemble`` makes them."""
        settings = self.settings
        for section in settings.stackers.values():
            self.warm_up(section)
        start = time.perf_counter()
        ensemble = StackedEnsemble(
            {name: make_stacker(section) for name, section in settings.stackers.items()},
            blend=settings.blend,
            thresholds=settings.thresholds,
            metric=settings.metric,
            nested=settings.folds.nested,
            model_names=self.data.models,
        ).fit(self.data.cube, self.data.labels, folds=self.folds)
        fit_seconds, peak = time.perf_counter() - start, peak_memory()
        start = time.perf_counter()
        new = ensemble.predict_proba(self.new)
        predicted = ensemble.blended_.decision.decide(new)
        measured = {
            "fit_seconds": fit_seconds,
            "predict_seconds": time.perf_counter() - start,
            "peak_bytes": peak,
            "weights": {name: weight for name, weight in ensemble.blended_.weights.items() if weight},
            "strategy": ensemble.blended_.decision.strategy,
            "decisions": self.decisions(ensemble, None if self.data.test_cube is None else new),
        }
        labels: Labels = {"fitted": ensemble.blended_.cross_fitted.labels}
        if self.data.test_cube is not None:
            labels["test"] = predicted
        return measured, labels

    def decisions(self, ensemble: StackedEnsemble, test: NDArray[np.float32] | None) -> dict[str, Any]:
        """Every decision strategy on the ensemble's probabilities, cross-fitted and on the test."""
        metric, thresholds = self.settings.metric, self.settings.thresholds
        strategies = [name for name in STRATEGIES if name != "per_group"]  # a cube knows no groups of labels
        members = {name: ensemble.predictions_[name] for name in ensemble.blended_.weights}
        common: dict[str, Any] = {"metric": metric, "thresholds": thresholds}
        fitted = ensemble.blended_.cross_fitted
        table = strategy_scores(members, fitted, self.answers, self.folds, strategies=strategies, **common)
        rows: dict[str, Any] = {name: {"cross_fitted": values} for name, values in table.items()}
        if test is not None and self.data.test_labels is not None:
            truth = check_answers(self.data.test_labels)
            for name in strategies:
                rule = fit_decision(
                    self.data.labels, ensemble.blended_.probability, thresholds, metric, strategy=name, folds=self.folds
                )
                rows[name]["test"] = summary(truth, rule.decide(test), metric)
        return rows

    def reference(self, section: XGBoostStackerSection, labels: list[int]) -> Measured:
        """scikit-learn's MultiOutputRegressor(XGBRegressor) on the flattened cube, some labels of the first fold.

        All folds, and scores, where ``labels`` are all labels.
        """
        whole = len(labels) == self.answers.shape[1]
        flat = self.data.cube.reshape(len(self.data.cube), -1)
        oof = np.empty_like(self.data.labels)
        models, seconds = [], []
        multi_output(section).fit(np.eye(4, 2), np.eye(4, 1))  # loads and starts what it needs
        for fold in range(self.k if whole else 1):
            train = self.folds != fold
            start = time.perf_counter()
            models.append(multi_output(section).fit(flat[train], self.data.labels[train][:, labels]))
            seconds.append(time.perf_counter() - start)
            if whole:
                oof[~train] = np.clip(models[-1].predict(flat[~train]).reshape(-1, len(labels)), 0, 1)
        per_label = sum(seconds) / (len(seconds) * len(labels))
        measured: dict[str, Any] = {
            "seconds_per_label": per_label,
            "labels": labels,
            "fit_seconds": per_label * self.answers.shape[1] * self.k,
            "peak_bytes": peak_memory(),
            "estimated": not whole,
        }
        start = time.perf_counter()
        new = [np.clip(model.predict(self.new.reshape(len(self.new), -1)), 0, 1) for model in models]
        measured["predict_seconds"] = (
            (time.perf_counter() - start) * self.answers.shape[1] * self.k / (len(labels) * len(models))
        )
        if not whole:
            return measured, {}
        test = np.mean(new, axis=0).reshape(len(self.new), -1).astype(np.float32)
        return measured, self.decided(FoldPredictions(oof), None if self.data.test_cube is None else test)


def multi_output(section: XGBoostStackerSection) -> Any:
    """scikit-learn's estimator with the trees of an XGBoost section, but all features and all threads."""
    import xgboost
    from sklearn.multioutput import MultiOutputRegressor

    shared = section.model_dump(
        include={"n_estimators", "max_depth", "learning_rate", "min_child_weight", "reg_lambda", "device"}
    )
    return MultiOutputRegressor(xgboost.XGBRegressor(objective="binary:logistic", tree_method="hist", **shared))


def summary(truth: NDArray[np.bool_], given: NDArray[np.bool_], metric: MetricSection) -> dict[str, float]:
    """Scores of label sets by the metric that decides them and its family, such as samples, micro and macro F."""
    return {each.short: each.score(truth, given) for each in metric_of(metric).decides.family}


def measure(task: dict[str, Any], bench: Bench) -> Measured:
    """Do what a task names; see ``bench_methods.Method``."""
    section = section_of(task["section"]["kind"])(**task["section"]) if task["section"] else None
    kinds: dict[str, Callable[[], Measured]] = {
        "base model": lambda: bench.model(bench.data.models.index(task["name"])),
        "best base model": bench.best_model,
        "stacker": lambda: bench.stacker(section),  # type: ignore[arg-type]
        "second level": bench.second_level,
        "reference": lambda: bench.reference(section, task["labels"]),  # type: ignore[arg-type]
    }
    return kinds[task["kind"]]()


def main(folder: Path) -> int:
    """Read ``inputs.npz`` and ``task.json``, write ``result.json`` and ``labels.npz``; 1 when the method fails."""
    task = read_json(folder / "task.json")
    with np.load(folder / "inputs.npz", allow_pickle=False) as arrays:
        inputs = {name: arrays[name] for name in arrays.files}
    folds = inputs.pop("folds")
    data = Cube(models=tuple(inputs.pop("models").tolist()), **inputs)
    try:
        result, labels = measure(task, Bench(data, folds, SecondLevel.model_validate(task["settings"])))
    except (UserError, ValueError) as error:
        write_json(folder / "result.json", {"error": str(error)})
        return 1
    except Exception as error:  # the other methods go on, and this one's row says what happened
        traceback.print_exc()
        write_json(folder / "result.json", {"error": f"{type(error).__name__}: {error}"})
        return 1
    with (folder / "labels.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **labels)  # type: ignore[arg-type]
    write_json(folder / "result.json", result)
    return 0


if __name__ == "__main__":
    logging.getLogger("labelstack").setLevel(logging.ERROR)  # warnings of dozens of fits would bury the table
    sys.exit(main(Path(sys.argv[1])))
