"""Every way of stacking on one cube, side by side: time, memory, cross-fitted and test scores."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params.metric import MetricSection
from labelstack.params.second_level_file import SecondLevel
from labelstack.scoring import bootstrap
from labelstack.scoring.bootstrap import Interval
from labelstack.scoring.metric import metric_of
from labelstack.stacking.array_checks import check_answers
from labelstack.stacking.bench.cubes import Cube
from labelstack.stacking.bench.methods import (
    BEST_MODEL,
    DEFAULT,
    Method,
    distinct,
    methods,
    reference,
    sample_of_labels,
)
from labelstack.stacking.folds import assign_folds
from labelstack.support.errors import UserError
from labelstack.support.storage import read_json, write_json


@dataclass(frozen=True)
class Row:
    """What was measured of a method; a field is None where there is nothing to measure.

    Attributes
    ----------
    fit_seconds : of all folds; of ``second level`` of everything; of ``reference`` time per label × labels × folds
    predict_seconds : of the fold models together, on the test images, or without such on the images fitted on
    peak_bytes : largest resident memory up to the end of the fit, libraries and data included
    cross_fitted, test : scores of label sets by the metric that decides them and its family: samples, micro, macro
    interval, test_interval : bootstrap intervals of the primary one
    faster : how often the fit fits into the reference's
    details : kind by kind: ``weights``, ``strategy``, ``nested_seconds``, ``seconds_per_label``, ``note`` …
    error : why there are no scores, else empty
    labels : bool [n, n_labels], cross-fitted
    """

    name: str
    kind: str
    fit_seconds: float | None = None
    predict_seconds: float | None = None
    peak_bytes: int | None = None
    cross_fitted: dict[str, float] | None = None
    interval: Interval | None = None
    test: dict[str, float] | None = None
    test_interval: Interval | None = None
    faster: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    labels: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """All but the labels, for JSON."""
        content = {name: value for name, value in self.__dict__.items() if name != "labels"}
        for name in ("interval", "test_interval"):
            content[name] = None if content[name] is None else content[name]._asdict()
        return content


@dataclass(frozen=True)
class BenchResult:
    """The table.

    Attributes
    ----------
    rows : in the order in which they were measured
    decisions : strategy → scores on the default's probabilities; empty without the default
    winner : the row with the largest cross-fitted primary score, the reference left out; None when every method failed
    gain : the winner's score minus that of the best base model, paired; None where either is missing
    against_default : the same against the default, where that is not the winner
    """

    rows: list[Row]
    decisions: dict[str, dict[str, dict[str, float]]]
    winner: Row | None
    gain: Interval | None
    against_default: Interval | None

    def row(self, name: str) -> Row | None:
        """The row of that name, or None."""
        return next((row for row in self.rows if row.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Everything but labels, for JSON."""
        compared = {"gain": self.gain, "against_default": self.against_default}
        return {
            "rows": [row.to_dict() for row in self.rows],
            "decisions": self.decisions,
            "winner": None if self.winner is None else self.winner.name,
        } | {name: None if value is None else value._asdict() for name, value in compared.items()}


def bench(
    data: Cube,
    settings: SecondLevel,
    *,
    members: Sequence[str] = (),
    reference_labels: int = 6,
    say: Callable[[str], None] = lambda line: None,
) -> BenchResult:
    """Measure every method on a cube, each in a fresh process.

    Parameters
    ----------
    data : a cube with labels; a test pair is scored once, with rules chosen on the first pair
    settings : folds, stackers, blend, metric and thresholds; every method decides by these thresholds
    members : names of ``methods`` to measure; all but single base models when empty
    reference_labels : how many labels scikit-learn's MultiOutputRegressor(XGBRegressor) is fitted on for the time per
        label, at most; 0 leaves it out
    say : gets one line for each method

    Raises
    ------
    UserError
        When there are fewer images than folds, names are unknown, or a blend member is missing.
    """
    data = replace(data, models=distinct(data.models, settings))
    todo = methods(settings, data.models, members)
    folds = assign_folds(data.labels, settings.folds.k, settings.folds.seed)
    if reference_labels > 0:
        todo.insert(0, reference(settings))
    rows: list[Row] = []
    for number, (method, result, labels) in enumerate(_measured(todo, data, folds, settings, reference_labels), 1):
        compared = next((row.fit_seconds for row in rows if row.kind == "reference"), None)
        rows.append(_row(method, result, labels, data, settings.metric, compared))
        say(f"{number}/{len(todo)} {_line(rows[-1], metric_of(settings.metric).decides.short)}")
    return _result(rows, data, settings.metric)


def _measured(
    todo: Sequence[Method], data: Cube, folds: NDArray[np.int64], settings: SecondLevel, reference_labels: int
) -> Iterator[tuple[Method, dict[str, Any], dict[str, NDArray[np.bool_]]]]:
    """Run the worker for one method after the other."""
    inputs = {"cube": data.cube, "labels": data.labels, "folds": folds, "models": np.array(data.models)}
    if data.test_cube is not None and data.test_labels is not None:
        inputs |= {"test_cube": data.test_cube, "test_labels": data.test_labels}
    answers = check_answers(data.labels)
    with tempfile.TemporaryDirectory(prefix="labelstack-bench-") as name:
        folder = Path(name)
        np.savez(folder / "inputs.npz", allow_pickle=False, **inputs)  # type: ignore[arg-type]
        for method in todo:
            task = {
                "name": method.name,
                "kind": method.kind,
                "section": None if method.section is None else method.section.model_dump(mode="json"),
                "labels": sample_of_labels(answers[folds != 0], reference_labels),
                "settings": settings.model_dump(mode="json"),
            }
            write_json(folder / "task.json", task)
            yield method, *_run(folder)


def _run(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.bool_]]]:
    for file in (folder / "result.json", folder / "labels.npz"):
        file.unlink(missing_ok=True)
    # -P: a file of the working folder that is called like a library must not take its place
    done = subprocess.run([sys.executable, "-P", "-m", "labelstack.stacking.bench.process", str(folder)], check=False)
    if not (folder / "result.json").exists():
        how = f"killed by signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        return {"error": f"its process ended early ({how}{', out of memory?' if done.returncode == -9 else ''})"}, {}
    result = read_json(folder / "result.json")
    if done.returncode or not (folder / "labels.npz").exists():
        return result, {}
    with np.load(folder / "labels.npz", allow_pickle=False) as arrays:
        return result, {name: arrays[name] for name in arrays.files}


def _row(
    method: Method,
    result: dict[str, Any],
    labels: dict[str, NDArray[np.bool_]],
    data: Cube,
    metric: MetricSection,
    reference_seconds: float | None,
) -> Row:
    result = dict(result)
    error = result.pop("error", "")
    known = {name: result.pop(name, None) for name in ("fit_seconds", "predict_seconds", "peak_bytes")}
    row = Row(method.name, method.kind, **known, details=result, error=error)
    if row.fit_seconds and reference_seconds and method.kind == "stacker":
        row = replace(row, faster=reference_seconds / row.fit_seconds)
    if "fitted" in labels:
        scores, interval = _scored(data.labels, labels["fitted"], metric)
        row = replace(row, cross_fitted=scores, interval=interval, labels=labels["fitted"])
    if "test" in labels and data.test_labels is not None:
        scores, interval = _scored(data.test_labels, labels["test"], metric)
        row = replace(row, test=scores, test_interval=interval)
    return row


def _scored(
    targets: NDArray[np.float32], labels: NDArray[np.bool_], metric: MetricSection
) -> tuple[dict[str, float], Interval]:
    answers = check_answers(targets)
    judge = metric_of(metric).decides
    scores = {each.short: each.score(answers, labels) for each in judge.family}
    return scores, bootstrap.interval(judge, answers, labels)


def _line(row: Row, primary: str) -> str:
    if row.error:
        return f"{row.name}: failed: {row.error}"
    if row.cross_fitted is None:
        return f"{row.name}: {row.details['seconds_per_label']:.3g} s for each label and fold"
    return f"{row.name}: {primary} {row.cross_fitted[primary]:.4f}, fitted in {row.fit_seconds:.3g} s"


def _result(rows: list[Row], data: Cube, metric: MetricSection) -> BenchResult:
    scored = [row for row in rows if row.cross_fitted is not None]
    if not scored and all(row.error for row in rows):
        raise UserError("every method failed:\n  " + "\n  ".join(f"{row.name}: {row.error}" for row in rows))
    running = [row for row in scored if row.kind != "reference"]
    judge = metric_of(metric).decides
    best = max(running, key=lambda row: row.cross_fitted[judge.short], default=None)  # type: ignore[index]
    by_name = {row.name: row for row in scored}
    base = by_name.get(BEST_MODEL)
    answers = check_answers(data.labels)

    def against(other: Row | None) -> Interval | None:
        if best is None or other is None or other is best or best.labels is None or other.labels is None:
            return None
        return bootstrap.paired(judge, answers, best.labels, other.labels)

    default = by_name.get(DEFAULT)
    decisions = default.details.pop("decisions", {}) if default else {}
    return BenchResult(rows, decisions, best, against(base), against(default))
