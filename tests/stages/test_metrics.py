"""Another metric through the real stages: mean average precision from blend to champion, and one of a package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from labelstack.params import Params, load_params
from labelstack.params.metric import MetricSection
from labelstack.predictions import read_predictions
from labelstack.registry.versions import METRIC_TAG, read_version
from labelstack.scoring.metric import metric_of
from labelstack.scoring.scored import read_scored
from labelstack.stages import code as stages_code
from labelstack.stages.fold_files import stacking_rows
from labelstack.stages.settings import settings
from labelstack.tracking.runs import connect
from support.test_catalogue import installed
from tiny import Workspace

KEY = "mean_average_precision"
FROM_BLEND = ("blend", "evaluate", "submit", "register")
SCORED = ("settings", "score wide", "score deep", "members base_models", "stack cnn", "stack xgboost",
          "members stackers", *FROM_BLEND)  # fmt: skip
PLUG_IN = """
from sklearn.metrics import label_ranking_average_precision_score

from labelstack.scoring.metric import Metric


class RowRanking(Metric):
    wants = "rankings"

    def score(self, Y, given):
        return float(label_ranking_average_precision_score(Y, given))
"""


def stages(workspace: Workspace, *lines: str) -> str:
    """Run stages one after another; what the last one said."""
    return [workspace.run("labelstack", "stage", *line.split()).stdout for line in lines][-1]


def test_mean_average_precision_from_the_models_to_the_champion(
    copied: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied.root)
    before = {name: Path(f"data/predictions/wide/{name}.npy").read_bytes() for name in ("oof", "test")}
    copied.params(metric={"primary": KEY}, blend={"method": "greedy"})
    said = stages(copied, *SCORED)
    assert "v1 stays champion: the record of v1 can't be read" in said
    assert "holds no rankings of the blend, by which mean average precision is scored" in said
    assert before == {name: Path(f"data/predictions/wide/{name}.npy").read_bytes() for name in before}
    rows, evaluation = stacking_rows(load_params()), json.loads(Path("metrics/evaluation.json").read_text())
    blend = evaluation["scores"]["blend"]
    P = read_predictions("data/ensemble/cross_fitted_probability.npy").rows_of(rows.row_id)
    there = rows.Y.any(axis=0)
    oracle = average_precision_score(rows.Y[:, there], P[:, there], average="macro")
    assert evaluation["primary"] == f"{KEY}_cross_fitted"
    assert blend[f"{KEY}_cross_fitted"] == pytest.approx(oracle, abs=1e-6)
    assert blend[f"{KEY}_cross_fitted_low"] < blend[f"{KEY}_cross_fitted_high"]
    assert {f"test_{KEY}", f"{KEY}_in_sample", "samples_f1_at_fixed", "test_samples_f1"} <= set(blend)
    assert set(evaluation["decisions"]["fixed"]) >= {"samples_f1", "micro_f1", "macro_f1", "gain"}

    # other weights, registered beside a champion that was chosen for the same metric
    copied.run("labelstack", "promote", "2", "--reason", "the first by rankings")
    copied.params(blend={"method": "equal"})
    said = stages(copied, *FROM_BLEND)
    tracker = connect(load_params().tracking)
    second, third = (read_version(tracker, "labelstack", number) for number in (2, 3))
    assert third.tags[METRIC_TAG] == f"{KEY}_cross_fitted"
    assert third.tags["labelstack.compared_with"] == "labelstack/2"
    assert "mean average precision, 95 % interval" in third.tags["labelstack.promotion"]
    assert third.tags["labelstack.promotion"] in said
    assert "| mean average precision |" in second.description
    assert "| samples F1 |" in second.description
    record = read_scored(tracker.client.download_artifacts(second.run_id, "evaluation/scored.npz"))
    np.testing.assert_array_equal(record.probability["blend"], P)

    compared = copied.run("labelstack", "compare", "2", "3", "--html", "out/page.html", "--labels", "2").stdout
    assert "mean average precision, cross-fitted" in compared
    assert "mAP, F1 on validation images" in compared
    assert "no rankings" not in compared
    assert "mean average precision" in Path("out/page.html").read_text(encoding="utf-8")
    here = copied.run("labelstack", "compare", "version:3", "workspace").stdout
    assert " equal" in here
    evaluation = json.loads(Path("metrics/evaluation.json").read_text())
    shown = f"{evaluation['scores']['blend'][f'{KEY}_cross_fitted']:.4f} mean average precision"
    assert shown in copied.run("labelstack", "promote").stdout
    stages(copied, "report")
    assert "mean average precision of <bdi>blend</bdi>" in Path("report/index.html").read_text(encoding="utf-8")
    assert "mAP" in copied.run("labelstack", "leaderboard").stdout

    # back to F: nothing of the other metric is left behind
    copied.params(metric={"primary": "samples"}, blend={"method": "log_loss"})
    said = stages(copied, *SCORED)
    assert "registered before" in said
    assert not list(Path("data").rglob("cross_fitted_probability.npy"))


@pytest.fixture
def plugged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with an installed package that brings the metric row_ranking."""
    site = tmp_path / "site"
    entries = {"row_ranking": "labelstack_rows:RowRanking"}
    installed(site, "labelstack_rows", entries, "labelstack.metrics", PLUG_IN)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    return site


def test_a_metric_of_an_installed_package_by_its_name(
    copied: Workspace, plugged_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied.root)
    copied.params(metric={"primary": "row_ranking"})
    said = stages(copied, "settings", "score wide")
    rows = stacking_rows(load_params())
    P = read_predictions("data/predictions/wide/oof.npy").rows_of(rows.row_id)
    expected = label_ranking_average_precision_score(rows.Y, P)
    scores = json.loads(Path("metrics/score/wide.json").read_text())
    assert scores["row_ranking_cross_fitted"] == pytest.approx(expected, abs=1e-6)
    assert scores["row_ranking_cross_fitted_low"] < scores["row_ranking_cross_fitted_high"]
    assert f"row_ranking_cross_fitted {expected:.4f}" in said
    (plugged_in / "labelstack_rows-1.0.dist-info/entry_points.txt").write_text("")
    refused = copied.run("labelstack", "stage", "settings", ok=False)
    assert refused.returncode
    assert "metric.primary: unknown metric 'row_ranking'" in refused.stderr


def with_metric(primary: str) -> Params:
    return Params.model_validate({"metric": {"primary": primary}, "models": {"a": {"backbone": "small_cnn"}},
                                  "stackers": {"b": {"kind": "mean"}}})  # fmt: skip


def test_code_of_a_metric_counts_for_who_depends_on_it(plugged_in: Path) -> None:
    """F-scores are in every stage's code already; what is loaded by its name stands with the metric."""
    found = {name: settings(with_metric(name)) for name in ("samples", KEY, "row_ranking")}
    assert found["samples"]["metric"] == {"primary": "samples", "beta": 1.0}
    codes = [found[name]["metric"]["code"] for name in (KEY, "row_ranking")]
    assert len({*codes}) == 2
    assert found["row_ranking"]["models"]["a"]["all"]["monitor"]["code"] == codes[1]
    for change, differs in (("# said otherwise", False), ("CHANGED = True", True)):
        (plugged_in / "labelstack_rows.py").write_text(f"{PLUG_IN}\n{change}\n")
        stages_code._plug_in.cache_clear()  # as in the next process
        assert (settings(with_metric("row_ranking"))["metric"]["code"] != codes[1]) is differs
    assert settings(with_metric(KEY))["metric"]["code"] == codes[0]


def test_an_installed_metric_is_made_of_the_section(plugged_in: Path) -> None:
    metric = metric_of(MetricSection(primary="row_ranking", beta=2))
    assert (metric.key, metric.title, metric.wants) == ("row_ranking", "row ranking", "rankings")
    assert [each.key for each in metric.family] == ["row_ranking", "samples_f2"]
