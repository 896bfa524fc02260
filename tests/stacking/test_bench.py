"""The bench on small cubes: what is measured, what is chosen without looking, and what happens when a method fails."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from labelstack.params.second_level_file import SecondLevel
from labelstack.params.stackers import STACKERS, section_of
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring import metrics
from labelstack.stacking.bench import table
from labelstack.stacking.bench.cubes import Cube
from labelstack.stacking.bench.generator import generate
from labelstack.stacking.bench.process import Bench, Row, multi_output
from labelstack.stacking.bench.table import _measured, bench, methods, sample_of_labels, seconds_left
from labelstack.stacking.crossfit import cross_fit
from labelstack.stacking.deciding.decisions import STRATEGIES, fit_decision
from labelstack.stacking.fold_predictions import out_of_fold
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.stackers.construction import make_stacker
from labelstack.support.errors import InputProblems, UserError

TREES = {"kind": "xgboost", "features": "own", "n_estimators": 5, "max_depth": 2}


def second_level(**change: Any) -> SecondLevel:
    sections = {"stackers": {"trees": TREES}, "folds": {"k": 3}, "thresholds": {"strategy": "global"}}
    return SecondLevel.model_validate(sections | change)


@pytest.fixture(scope="module")
def cube() -> Cube:
    return generate(150, 3, 5, n_test=60, seed=4)


@pytest.fixture(scope="module")
def rows(cube: Cube) -> dict[str, Row]:
    measured = bench(cube, second_level(), members=["best_single", "trees", "default"], reference_labels=2)
    return {row.name: row for row in measured}


def in_process(cube: Cube, settings: SecondLevel, *task: Any) -> Row:
    row = Bench(cube, assign_folds(cube.labels, settings.folds.k, settings.folds.seed), settings).row(*task)
    assert not row.error
    return row


def test_a_stackers_row_is_what_its_parts_give(cube, rows):
    """The table against the same steps by hand."""
    settings = second_level()
    folds = assign_folds(cube.labels, 3, 0)
    section = settings.stackers["trees"]
    fitted = out_of_fold(
        lambda: make_stacker(section), cube.cube, cube.labels, folds, test_cube=cube.test_cube, nested=True
    )
    thresholds = ThresholdsSection(strategy="global")
    labels = cross_fit(fitted.predictions, cube.labels, folds, metric=settings.metric, thresholds=thresholds).labels
    rule = fit_decision(cube.labels, fitted.predictions.like_new(folds), thresholds, settings.metric)
    row = rows["trees"]
    for average in metrics.AVERAGES:
        assert row.cross_fitted[average] == metrics.f_beta(cube.labels, labels, average=average)
        on_test = metrics.f_beta(cube.test_labels, rule.decide(fitted.test), average=average)
        assert row.test[average] == pytest.approx(on_test, abs=1e-9)
    assert row.interval.low < row.cross_fitted["samples"] == row.interval.score < row.interval.high
    assert row.fit_seconds > 0
    assert row.predict_seconds > 0
    assert row.details["nested_seconds"] > 0
    assert row.peak_bytes > 50e6


def test_the_best_model_is_chosen_on_other_folds(cube, rows):
    best = rows["best_single"]
    assert best.fit_seconds == 0
    models = {name: in_process(cube, second_level(), name) for name in cube.models}
    assert best.test == models[best.details["note"]].test
    folds = assign_folds(cube.labels, 3, 0)
    for fold in range(3):
        rest = folds != fold
        scores = {n: metrics.f_beta(cube.labels[rest], m.labels[rest], average="samples") for n, m in models.items()}
        chosen = models[max(scores, key=lambda name: scores[name])].labels
        assert np.array_equal(best.labels[~rest], chosen[~rest])


def test_the_best_model_may_differ_between_folds(cube):
    """Two models, each blind on half of the images: which one is better is a matter of the rows."""
    folds = assign_folds(cube.labels, 2, 0)
    views = np.repeat(cube.labels[:, None] * np.float32(0.9) + np.float32(0.05), 2, axis=1)
    for fold in range(2):
        views[folds == fold, fold] = 0.5
    data = Cube(views, cube.labels, models=("left", "right"))
    row = in_process(data, second_level(folds={"k": 2}), "best_single")
    assert row.details["note"] in {"left", "right"}
    assert row.cross_fitted["samples"] < 0.6  # the model that is good on the other fold is blind on this one


def test_the_ratio_is_reference_over_fit(rows):
    reference, trees = rows["MultiOutputRegressor"], rows["trees"]
    assert list(rows) == ["MultiOutputRegressor", "best_single", "trees", "default"]
    assert len(reference.details["labels"]) == 2
    assert reference.fit_seconds == pytest.approx(reference.details["seconds_per_label"] * 5 * 3)
    assert trees.faster == pytest.approx(reference.fit_seconds / trees.fit_seconds)
    assert reference.cross_fitted is None


def test_every_strategy_decides_on_the_defaults_probabilities(rows):
    default = rows["default"]
    assert sum(default.details["weights"].values()) == pytest.approx(1)
    decisions = default.details["decisions"]
    assert set(decisions) == set(STRATEGIES) - {"per_group"}
    # thresholds.strategy is global here, so the table's row of that strategy is the default's
    assert {name: decisions["global"][f"test {name}"] for name in default.test} == default.test
    assert decisions["global"]["samples_f1"] == default.cross_fitted["samples"]


def test_the_reference_is_scikit_learns_estimator():
    model = multi_output(section_of("xgboost")(kind="xgboost", n_estimators=7, max_depth=3, learning_rate=0.2))
    assert type(model).__name__ == "MultiOutputRegressor"
    kept = model.estimator.get_params()
    assert (kept["n_estimators"], kept["max_depth"], kept["learning_rate"]) == (7, 3, 0.2)
    assert kept["objective"] == "binary:logistic"


@pytest.mark.parametrize(("shape", "k"), [((40, 1, 3), 2), ((40, 3, 1), 2), ((30, 1, 1), 3)])
def test_the_smallest_cubes(shape, k):
    made, settings = generate(*shape, n_test=0, seed=3), second_level(folds={"k": k})
    for task in (["best_single"], ["trees", settings.stackers["trees"]], ["default"]):
        row = in_process(made, settings, *task)
        assert row.fit_seconds >= 0
        assert row.test is None
        assert row.labels.shape == (shape[0], shape[2])


def test_soft_labels_and_labels_without_positives(cube):
    labels = cube.labels * np.float32(0.8)
    labels[:, 2] = 0.1
    row = in_process(replace(cube, labels=labels), second_level(), "default")
    assert row.labels.dtype == np.bool_
    assert "test samples" in row.details["decisions"]["expected_f"]


def test_a_method_that_fails_leaves_the_others(cube, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(table, "methods", lambda *args: {"nobody": None, "model_1": None})
    failed, other = bench(cube, second_level(), reference_labels=0, say=lines.append)
    assert other.cross_fitted
    assert failed.error
    assert lines[0].startswith(f"1/2 nobody: failed: {failed.error}, about ")
    assert lines[0].endswith(" s left")
    assert "left" not in lines[1]
    monkeypatch.setattr(table, "methods", lambda *args: {"nobody": None})
    with pytest.raises(UserError, match="every method failed:\n  nobody: "):
        bench(cube, second_level(), reference_labels=0)


def test_the_default_takes_as_long_as_its_stackers_together():
    took = {"mean": 1.0, "ridge": 5.0, "cnn": 9.0}
    assert seconds_left(took, ["greedy", "default"], ["ridge", "cnn", "logistic"]) == 5 + (5 + 9 + 5)
    assert seconds_left(took, [], ["ridge"]) == 0


def test_a_process_that_dies_is_a_row_with_an_error():
    assert _measured(SimpleNamespace(row=os._exit), 9).error == "its process ended early (out of memory?)"


def test_methods_by_name():
    settings = second_level()
    names = list(methods(settings, ["a", "b"]))
    assert names[0] == "best_single"
    assert names[-2:] == ["trees", "default"]
    exclusive = {"multinomial", "softprob"}  # of labels that exclude each other
    assert set(names[1:-2]) == set(STACKERS.own) - {"xgboost"} - exclusive  # kinds that params do not use
    assert list(methods(settings, ["a", "b"], ["default", "b"])) == ["b", "default"]
    assert list(methods(settings, ["a", "b"], ["base_models"])) == ["a", "b"]
    assert methods(settings, ["mean"])["ridge"].kind == "ridge"
    assert "mean" not in methods(settings, ["mean"])  # a base model's name


def test_names_that_there_are_not_are_told_together():
    settings = second_level(stackers={"trees": TREES, "default": TREES}, blend={"members": ["trees", "resnet"]})
    with pytest.raises(InputProblems) as caught:
        methods(settings, ["resnet50", "trees"], ["tree", "default"])
    text = "\n".join(caught.value.problems)
    assert "unknown method 'tree'; did you mean 'trees'?" in text
    assert "default: more than one row of the table would be called so" in text
    assert "trees: more than one row of the table would be called so" in text
    assert "blend.members: unknown member 'resnet'; did you mean 'resnet50'?" in text


def test_sampled_labels_span_the_frequencies():
    answers = np.zeros((100, 8), bool)
    for label, count in enumerate([50, 0, 3, 20, 100, 10, 1, 30]):
        answers[:count, label] = True
    assert sample_of_labels(answers, 2) == [2, 7]  # constant ones (1 and 4) never
    assert sample_of_labels(answers, 6) == [0, 2, 3, 5, 6, 7]
    assert sample_of_labels(answers, 20) == [0, 2, 3, 5, 6, 7]
    assert len(sample_of_labels(np.zeros((5, 3), bool), 2)) == 2


def test_more_folds_than_images_are_refused():
    with pytest.raises(UserError, match=r"folds\.k is 5: 3 images"):
        bench(generate(3, 1, 2), second_level(folds={"k": 5}))
