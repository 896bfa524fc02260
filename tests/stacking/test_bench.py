"""The bench on small cubes: what is measured, what is chosen without looking, and what happens when a method fails."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelstack.params.second_level_file import SecondLevel
from labelstack.params.stackers import STACKERS, section_of
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring import metrics
from labelstack.stacking.bench.cubes import Cube
from labelstack.stacking.bench.generator import generate
from labelstack.stacking.bench.methods import distinct, methods, sample_of_labels
from labelstack.stacking.bench.process import Bench, Timed, main, measure, multi_output, peak_memory
from labelstack.stacking.bench.table import BenchResult, bench
from labelstack.stacking.crossfit import cross_fit
from labelstack.stacking.deciding.decisions import STRATEGIES, fit_decision
from labelstack.stacking.fold_predictions import out_of_fold
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.stackers.construction import make_stacker
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.storage import read_json, write_json

TREES = {"kind": "xgboost", "features": "own", "n_estimators": 5, "max_depth": 2}


def second_level(**change: Any) -> SecondLevel:
    sections = {"stackers": {"trees": TREES}, "folds": {"k": 3}, "thresholds": {"strategy": "global"}}
    return SecondLevel.model_validate(sections | change)


@pytest.fixture(scope="module")
def cube() -> Cube:
    return generate(150, 3, 5, n_test=60, seed=4)


@pytest.fixture(scope="module")
def result(cube: Cube) -> BenchResult:
    members = ["best_single", "trees", "default"]
    return bench(cube, second_level(), members=members, reference_labels=2)


def in_process(cube: Cube, settings: SecondLevel, **task: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    folds = assign_folds(cube.labels, settings.folds.k, settings.folds.seed)
    return measure({"section": None, "name": "", "labels": []} | task, Bench(cube, folds, settings))


def test_rows_stand_in_the_tables_order(result):
    assert [(row.name, row.kind) for row in result.rows] == [
        ("MultiOutputRegressor", "reference"),
        ("best_single", "best base model"),
        ("trees", "stacker"),
        ("default", "second level"),
    ]
    assert not any(row.error for row in result.rows)


def test_a_stackers_row_is_what_its_parts_give(cube, result):
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
    row = result.row("trees")
    for average in metrics.AVERAGES:
        assert row.cross_fitted[average] == metrics.f_beta(cube.labels, labels, average=average)
        on_test = metrics.f_beta(cube.test_labels, rule.decide(fitted.test), average=average)
        assert row.test[average] == pytest.approx(on_test, abs=1e-9)
    assert row.interval.low < row.cross_fitted["samples"] == row.interval.score < row.interval.high
    assert row.test_interval.score == row.test["samples"]
    assert row.fit_seconds > 0
    assert row.predict_seconds > 0
    assert row.details["nested_seconds"] > 0
    assert row.peak_bytes > 50e6


def test_the_best_model_is_chosen_on_other_folds(cube, result):
    best = result.row("best_single")
    assert best.fit_seconds == 0
    models = {name: in_process(cube, second_level(), kind="base model", name=name)[1] for name in cube.models}
    on_test = metrics.f_beta(cube.test_labels, models[best.details["note"]]["test"], average="samples")
    assert best.test["samples"] == on_test
    folds = assign_folds(cube.labels, 3, 0)
    for fold in range(3):
        rest = folds != fold
        scores = {n: metrics.f_beta(cube.labels[rest], m["fitted"][rest], average="samples") for n, m in models.items()}
        chosen = models[max(scores, key=lambda name: scores[name])]["fitted"]
        assert np.array_equal(best.labels[~rest], chosen[~rest])


def test_the_best_model_may_differ_between_folds(cube):
    """Two models, each blind on half of the images: which one is better is a matter of the rows."""
    folds = assign_folds(cube.labels, 2, 0)
    views = np.repeat(cube.labels[:, None] * np.float32(0.9) + np.float32(0.05), 2, axis=1)
    for fold in range(2):
        views[folds == fold, fold] = 0.5
    data = Cube(views, cube.labels, models=("left", "right"))
    measured, labels = in_process(data, second_level(folds={"k": 2}), kind="best base model")
    assert measured["note"] in {"left", "right"}
    # the model that is good on the other fold is blind on this one
    assert metrics.f_beta(cube.labels, labels["fitted"], average="samples") < 0.6


def test_the_ratio_is_reference_over_fit(result):
    reference, trees = result.row("MultiOutputRegressor"), result.row("trees")
    details = reference.details
    assert details["estimated"]
    assert len(details["labels"]) == 2
    assert reference.fit_seconds == pytest.approx(details["seconds_per_label"] * 5 * 3)
    assert trees.faster == pytest.approx(reference.fit_seconds / trees.fit_seconds)
    assert reference.cross_fitted is None


def test_the_winner_is_compared_with_pairs(cube, result):
    scored = [row for row in result.rows if row.cross_fitted]
    assert result.winner.cross_fitted["samples"] == max(row.cross_fitted["samples"] for row in scored)
    default = result.row("default")
    assert sum(default.details["weights"].values()) == pytest.approx(1)
    if result.winner is not default:
        difference = result.winner.cross_fitted["samples"] - default.cross_fitted["samples"]
        assert result.against_default.score == pytest.approx(difference)
    assert set(result.decisions) == set(STRATEGIES) - {"per_group"}
    for strategy in result.decisions.values():
        assert {"samples", "micro", "macro"} == set(strategy["test"])
        assert strategy["cross_fitted"]["low"] <= strategy["cross_fitted"]["high"]
    # thresholds.strategy is global here, so the table's row of that strategy is the default's
    assert result.decisions["global"]["test"] == default.test
    assert result.decisions["global"]["cross_fitted"]["samples_f1"] == default.cross_fitted["samples"]


def test_all_labels_make_the_reference_a_row_with_scores(cube):
    settings = second_level(folds={"k": 3, "nested": False})
    measured, labels = in_process(cube, settings, kind="reference", section=TREES, labels=[0, 1, 2, 3, 4])
    assert not measured["estimated"]
    # the same trees as those of the stacker that sees all features, by another road
    own, same = in_process(cube, settings, kind="stacker", section=TREES | {"features": "all"})
    assert np.array_equal(same["fitted"], labels["fitted"])
    assert np.array_equal(same["test"], labels["test"])
    assert own["peak_bytes"] <= peak_memory()


def test_the_reference_is_scikit_learns_estimator():
    model = multi_output(section_of("xgboost")(kind="xgboost", n_estimators=7, max_depth=3, learning_rate=0.2))
    assert type(model).__name__ == "MultiOutputRegressor"
    kept = model.estimator.get_params()
    assert (kept["n_estimators"], kept["max_depth"], kept["learning_rate"]) == (7, 3, 0.2)
    assert kept["objective"] == "binary:logistic"


def test_fits_are_timed():
    class Stacker:
        def fit(self, cube, Y, *, progress=""):
            self.seen = progress

        def predict_proba(self, cube):
            return cube.mean(axis=1)

    seconds: list[float] = []
    stacker = Timed(Stacker(), seconds)
    assert stacker.fit(np.zeros((2, 1, 1)), np.zeros((2, 1)), progress="fold 1") is stacker
    assert stacker.stacker.seen == "fold 1"
    assert len(seconds) == 1
    assert stacker.predict_proba(np.ones((2, 3, 1))).tolist() == [[1], [1]]


@pytest.mark.parametrize(
    ("shape", "half", "k"),
    [((40, 1, 3), False, 2), ((40, 3, 1), True, 2), ((30, 1, 1), False, 3)],
)
def test_the_smallest_cubes(shape, half, k):
    made = generate(*shape, n_test=0, seed=3)
    if half:
        made = replace(made, cube=made.cube.astype(np.float16).astype(np.float32))
    settings = second_level(folds={"k": k})
    for task in ({"kind": "best base model"}, {"kind": "stacker", "section": TREES}, {"kind": "second level"}):
        measured, labels = in_process(made, settings, **task)
        assert measured["fit_seconds"] >= 0
        assert set(labels) == {"fitted"}
        assert labels["fitted"].shape == (shape[0], shape[2])


def test_soft_labels_and_labels_without_positives(cube):
    labels = cube.labels * np.float32(0.8)
    labels[:, 2] = 0.1
    measured, given = in_process(replace(cube, labels=labels), second_level(), kind="second level")
    assert given["fitted"].dtype == np.bool_
    assert "test" in measured["decisions"]["expected_f"]


def test_the_worker_says_why_it_failed(cube, tmp_path, monkeypatch):
    folds = assign_folds(cube.labels, 3, 0)
    settings = second_level(blend={"members": ["nobody"]}).model_dump(mode="json")
    np.savez(tmp_path / "inputs.npz", cube=cube.cube, labels=cube.labels, folds=folds, models=np.array(cube.models))
    task = {"section": None, "settings": settings}
    write_json(tmp_path / "task.json", {"name": "default", "kind": "second level", **task})
    assert main(tmp_path) == 1
    assert "nobody" in read_json(tmp_path / "result.json")["error"]
    write_json(tmp_path / "task.json", {"name": "other", "kind": "unheard of", **task})
    assert main(tmp_path) == 1
    assert read_json(tmp_path / "result.json")["error"] == "KeyError: 'unheard of'"
    write_json(tmp_path / "task.json", {"name": "model_1", "kind": "base model", **task})
    assert main(tmp_path) == 0
    assert read_json(tmp_path / "result.json")["predict_seconds"] == 0
    with np.load(tmp_path / "labels.npz", allow_pickle=False) as arrays:
        assert arrays["fitted"].shape == (150, 5)


def dying(folder: Path, times: int) -> str:
    """An interpreter that is killed so many times before it works."""
    python = sys.executable
    lines = [
        f"#!{python}",
        "import os, signal, sys",
        f"left = [flag for i in range({times}) if not os.path.exists(flag := f'{folder}/{{i}}')]",
        "if left:",
        "    open(left[0], 'w').close()",
        "    os.kill(os.getpid(), signal.SIGKILL)",
        f"os.execv({python!r}, [{python!r}, *sys.argv[1:]])",
    ]
    script = folder / "python"
    script.write_text("\n".join(lines))
    script.chmod(0o755)
    return str(script)


def test_a_method_that_dies_leaves_the_others(cube, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", dying(tmp_path, 1))
    lines: list[str] = []
    result = bench(cube, second_level(), members=["best_single", "model_1"], reference_labels=0, say=lines.append)
    died, other = result.rows
    assert died.error == "its process ended early (killed by signal 9, out of memory?)"
    assert died.cross_fitted is None
    assert lines[0] == f"1/2 best_single: failed: {died.error}"
    assert result.winner is other
    assert result.gain is None
    assert result.to_dict()["rows"][0]["error"] == died.error


def test_when_all_methods_fail_there_is_no_table(cube, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", dying(tmp_path, 2))
    with pytest.raises(UserError, match=r"every method failed:\n  best_single: .*\n  model_1: its process ended"):
        bench(cube, second_level(), members=["best_single", "model_1"], reference_labels=0)


def test_methods_by_name():
    settings = second_level()
    names = [method.name for method in methods(settings, ["a", "b"])]
    assert names[0] == "best_single"
    assert names[-2:] == ["trees", "default"]
    assert set(names[1:-2]) == set(STACKERS.own) - {"xgboost"}  # every kind that params do not use, with its defaults
    assert [m.name for m in methods(settings, ["a", "b"], ["default", "b"])] == ["b", "default"]
    assert [m.name for m in methods(settings, ["a", "b"], ["base_models"])] == ["a", "b"]


def test_names_that_there_are_not_are_told_together():
    settings = second_level(stackers={"trees": TREES, "default": TREES}, blend={"members": ["trees", "resnet"]})
    with pytest.raises(InputProblems) as caught:
        methods(settings, ["resnet50"], ["tree", "default"])
    text = "\n".join(caught.value.problems)
    assert "unknown method 'tree'; did you mean 'trees'?" in text
    assert "stackers.default: the bench calls a row of its own so" in text
    assert "blend.members: unknown member 'resnet'; did you mean 'resnet50'?" in text


def test_models_called_like_a_method_are_renamed():
    assert distinct(["cnn", "b", "trees", "cnn_model"], second_level()) == (
        "cnn_model", "b", "trees_model", "cnn_model_model",
    )  # fmt: skip


def test_sampled_labels_span_the_frequencies():
    answers = np.zeros((100, 8), bool)
    for label, count in enumerate([50, 0, 3, 20, 100, 10, 1, 30]):
        answers[:count, label] = True
    assert sample_of_labels(answers, 2) == [2, 7]  # constant ones (1 and 4) never
    assert sample_of_labels(answers, 6) == [0, 2, 3, 5, 6, 7]
    assert sample_of_labels(answers, 7) == [0, 2, 3, 5, 6, 7]
    assert sample_of_labels(answers, 20) == list(range(8))
    assert sample_of_labels(np.zeros((5, 3), bool), 2) == [0, 1]


def test_more_folds_than_images_are_refused():
    with pytest.raises(UserError, match=r"folds\.k is 5: 3 images"):
        bench(generate(3, 1, 2), second_level(folds={"k": 5}))
