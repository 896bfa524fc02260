"""Every way of stacking on one cube, side by side: time, memory, cross-fitted and test scores."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params.messages import unknown
from labelstack.params.second_level_file import SecondLevel
from labelstack.params.stackers import STACKERS, XGBoostStackerSection, section_of
from labelstack.stacking.array_checks import check_answers
from labelstack.stacking.bench.cubes import Cube
from labelstack.stacking.bench.process import BEST_MODEL, DEFAULT, REFERENCE, Bench, Row, judge_of
from labelstack.stacking.folds import assign_folds
from labelstack.support.errors import InputProblems, UserError

BASE_MODELS = "base_models"
_OWN = (REFERENCE, BEST_MODEL, BASE_MODELS, DEFAULT)


def bench(
    data: Cube,
    settings: SecondLevel,
    *,
    members: Sequence[str] = (),
    reference_labels: int = 6,
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Measure every method on a cube, each in a fresh process.

    Parameters
    ----------
    data : a cube with labels; a test pair is scored once, with rules chosen on the first pair
    settings : folds, stackers, blend, metric and thresholds; every method decides by these thresholds
    members : names of ``methods`` to measure; all but single base models when empty
    reference_labels : how many labels scikit-learn's estimator is fitted on, at most; 0 leaves it out
    say : gets one line for each method, with the time that the others will take
    """
    todo = methods(settings, data.models, members)
    folds = assign_folds(data.labels, settings.folds.k, settings.folds.seed)
    reference_labels = reference_labels if data.asked is None else 0  # it knows no label groups
    labels = sample_of_labels(check_answers(data.labels)[folds != 0], reference_labels)
    if reference_labels > 0:
        trees = [section for section in settings.stackers.values() if isinstance(section, XGBoostStackerSection)]
        todo = {REFERENCE: (trees or [XGBoostStackerSection()])[0]} | todo
    rows: list[Row] = []
    took: dict[str, float] = {}
    short = judge_of(data, settings).short
    for name, section in todo.items():
        start = time.monotonic()
        row = _measured(Bench(data, folds, settings), name, section, labels)
        rows.append(row)
        took[name] = time.monotonic() - start
        if section is not None and name != REFERENCE and rows[0].name == REFERENCE:
            row.faster = rows[0].fit_seconds / row.fit_seconds if rows[0].fit_seconds and row.fit_seconds else None
        scored = f"{short} {row.cross_fitted[short]:.4f}, " if row.cross_fitted else ""
        found = f"failed: {row.error}" if row.error else f"{scored}fitted in {row.fit_seconds:.3g} s"
        left = list(todo)[len(rows) :]
        rest = f", about {seconds_left(took, left, settings.stackers):,.0f} s left" if left else ""
        say(f"{len(rows)}/{len(todo)} {name}: {found}{rest}")
    if all(row.error for row in rows):
        raise UserError("every method failed:\n  " + "\n  ".join(f"{row.name}: {row.error}" for row in rows))
    return rows


def seconds_left(took: Mapping[str, float], left: Sequence[str], stackers: Collection[str]) -> float:
    """What methods that are left will take: the default as long as its stackers together, others the mean so far.

    Parameters
    ----------
    took : seconds of the methods that are done, at least one
    left : names of the others
    stackers : names of those that the default trains
    """
    mean = sum(took.values()) / len(took)
    return sum(sum(took.get(each, mean) for each in stackers) if name == DEFAULT else mean for name in left)


def _measured(bench: Bench, *task: Any) -> Row:
    """The row of a method, measured in a process of its own."""
    quiet = logging.getLogger("labelstack").setLevel  # warnings of dozens of fits would bury the table
    with ProcessPoolExecutor(1, get_context("spawn"), quiet, (logging.ERROR,)) as pool:
        try:
            return pool.submit(bench.row, *task).result()
        except BrokenProcessPool:
            return Row(task[0], error="its process ended early (out of memory?)")


def methods(settings: SecondLevel, models: Sequence[str], members: Sequence[str] = ()) -> dict[str, Any]:
    """What there is to measure, in the table's order: name → section of a stacker, None of other methods.

    Parameters
    ----------
    settings : its stackers by their names, and every kind of ours that is not among them with the kind's defaults
    models : names of the base models
    members : names to keep, ``base_models`` for each of these; all but the single base models when empty
    """
    used = {*models, *settings.stackers, *(section.kind for section in settings.stackers.values())}
    fitting = [kind for kind in STACKERS.own if settings.thresholds.exclusive or not section_of(kind).exclusive]
    stackers: dict[str, Any] = {kind: section_of(kind)(kind=kind) for kind in fitting if kind not in used}
    stackers |= settings.stackers
    every = {BEST_MODEL: None} | dict.fromkeys(models) | stackers | {DEFAULT: None}
    wanted = {*members} or {BEST_MODEL, *stackers, DEFAULT}
    known, blended = [BASE_MODELS, *every], [*settings.stackers, *models]
    twice = [name for name, count in Counter([*blended, *_OWN]).items() if count > 1]
    missing = {*settings.blend.members} - {*blended} if DEFAULT in wanted else set()
    problems = [unknown(name, known, "method") for name in members if name not in known]
    problems += [f"{name}: more than one row of the table would be called so; rename it" for name in twice]
    problems += [f"blend.members: {unknown(name, blended, 'member')}" for name in sorted(missing)]
    if problems:
        raise InputProblems("bench", problems)
    return {n: s for n, s in every.items() if n in wanted or (BASE_MODELS in wanted and n in models)}


def sample_of_labels(answers: NDArray[np.bool_], count: int) -> list[int]:
    """At most ``count`` labels, evenly spread from the rarest to the most frequent of those that are not constant."""
    ranked = np.argsort(answers.sum(axis=0), kind="stable")
    varied = ranked[np.ptp(answers.astype(np.int8), axis=0)[ranked] > 0]
    ranked = varied if len(varied) else ranked
    count = min(count, len(ranked))
    return sorted(ranked[((np.arange(count) + 0.5) * len(ranked) / count).astype(np.int64)].tolist())
