"""What a person sees in the MLflow UI and the report after a run, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser, browser
from labelstack.params.tracking import TrackingSection
from labelstack.tracking.runs import connect
from tiny import Workspace
from ui_pictures import compare_page, mlflow_ui, model_page, report, run_page, runs_table

SCORES = {"train": "metrics/score/{}.json", "stack": "metrics/stack/{}.json", "blend": "metrics/blend.json"}


@pytest.fixture(scope="module")
def url(finished: Workspace) -> Iterator[str]:
    """The address of an MLflow UI on the finished workspace."""
    with mlflow_ui(finished.root) as running:
        yield running


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def test_the_mlflow_ui_shows_runs_with_f1_curves_and_artifacts(
    finished: Workspace, url: str, window: Browser, tmp_path: Path
) -> None:
    run = json.loads((finished.root / "models/base/wide/run.json").read_text())
    window.viewport(1700, 760)
    table = runs_table(window, url, run["experiment_id"], tmp_path / "mlflow-runs.png")
    texts = run_page(window, url, run["experiment_id"], run["run_id"], tmp_path)
    tracker = connect(TrackingSection(), finished.root, create=False)
    model_id = tracker.client.get_run(run["run_id"]).outputs.model_outputs[0].model_id
    model = model_page(window, url, run["experiment_id"], model_id, tmp_path / "mlflow-model.png")
    runs = {row["Run Name"].split()[-1]: row for row in table}
    learned = {"train/wide": "wide", "train/deep": "deep", "stack/cnn": "cnn", "stack/xgboost": "xgboost"}
    models = learned | {"blend/ensemble": "ensemble"}
    assert {name: row["Models"].split()[0] for name, row in runs.items()} == models
    for name, row in runs.items():
        assert ("sample train (" in row["Dataset"]) == name.startswith("train/")
        assert ("sample train (held out) (" in row["Dataset"]) == name.startswith("train/")
        assert "sample validation (" in row["Dataset"]
        assert "sample test (" in row["Dataset"]
    for name, row in runs.items():
        scored = json.loads((finished.root / SCORES[name.partition("/")[0]].format(models[name])).read_text())
        for average in ("samples", "micro", "macro"):
            shown = float(row[f"{average}_f1_cross_fitted"])
            assert round(shown, 6) == scored[f"{average}_f1_cross_fitted"]
    order = [float(row["samples_f1_cross_fitted"]) for row in table]
    assert order == sorted(order, reverse=True)
    assert "train/wide" in texts["run"]
    for name in ("holdout_samples_f1", "loss"):
        assert name in texts["curves"]
    for name in ("plots", "history.csv", "thresholds.json"):
        assert name in texts["artifacts"]
    assert "model.keras" in model
    for name in ("runs", "run", "curves", "artifacts", "model"):
        assert (tmp_path / f"mlflow-{name}.png").stat().st_size > 20_000


def test_two_runs_are_compared_side_by_side(finished: Workspace, url: str, window: Browser, tmp_path: Path) -> None:
    runs = [json.loads((finished.root / f"models/stackers/{n}/run.json").read_text()) for n in ("cnn", "xgboost")]
    picture = tmp_path / "mlflow-compare.png"
    window.viewport(1500, 900)
    text = compare_page(window, url, runs[0]["experiment_id"], [run["run_id"] for run in runs], picture)
    assert "Comparing 2 Runs from 1 Experiment" in text
    for run in runs:
        assert run["run_id"] in text
        assert run["name"] in text
        assert f"{run['metrics']['samples_f1_cross_fitted']:.2f}" in text
    assert "stacker.max_depth" in text or "max_depth" in text
    assert "folds.nested" not in text  # equal in both
    assert picture.stat().st_size > 20_000


def test_the_report_of_a_real_run_fits_desktop_and_phone(finished: Workspace, tmp_path: Path) -> None:
    with browser() as window:
        report(window, finished.root / "report/index.html", tmp_path)
        assert window.console_errors() == []
        text = window.text()
    for name in ("wide", "deep", "cnn", "xgboost", "blend"):
        assert name in text
