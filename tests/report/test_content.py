"""Ranking, the gallery's choice, threshold curves and the leaderboard in the terminal."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import f1_score

from labelstack.params.metric import MetricSection
from labelstack.report.content import (
    LABEL_COLUMNS,
    GalleryLabel,
    LeaderboardRow,
    ThresholdCurve,
    gallery_item,
    pick_gallery,
    ranked,
    scores_of,
)
from labelstack.report.html import render
from labelstack.report.terminal import leaderboard_table
from labelstack.scoring.metric import FMetric, metric_of
from report import made_up


def test_rows_are_ranked_by_the_cross_fitted_primary_score() -> None:
    rows = [
        LeaderboardRow("none", "base model"),
        LeaderboardRow("nan", "base model", cross_fitted=made_up.f1(float("nan"), 0.9, 0.9)),
        LeaderboardRow("b", "stacker", cross_fitted=made_up.f1(0.5, 0.9, 0.1)),
        LeaderboardRow("a", "blend", cross_fitted=made_up.f1(0.6, 0.2, 0.1)),
    ]
    assert [row.name for row in ranked(rows, FMetric())] == ["a", "b", "none", "nan"]
    assert [row.name for row in ranked(rows, FMetric("micro"))] == ["nan", "b", "a", "none"]


def test_scores_are_picked_out_of_flat_metrics() -> None:
    metrics = {"samples_f1_cross_fitted": 0.7, "micro_f1_cross_fitted": 0.6, "samples_f1_at_0.3": 0.5}
    family = FMetric().family
    assert scores_of(metrics, family, "{}_cross_fitted") == made_up.f1(0.7, 0.6, None)
    assert scores_of(metrics, family, "test_{}") is None


@given(st.lists(st.floats(0, 1), max_size=80), st.integers(1, 40))
def test_gallery_choice_spans_the_ranking_without_repeats(f1: list[float], n: int) -> None:
    picked = pick_gallery(f1, n)
    assert len(picked) == len(set(picked)) == min(n, len(f1))
    scores = [f1[position] for position in picked]
    assert scores == sorted(scores, reverse=True)
    if len(f1) > 1 and n > 1:
        assert scores[0] == max(f1)
        assert scores[-1] == min(f1)


def test_gallery_item_tells_hits_misses_and_wrong_claims_apart() -> None:
    item = gallery_item(
        np.int64(7), b"", ["a", "b", "c", "d", "e"], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0.1, 0.6, 0.9, 0.7, 0.2], 0.5
    )
    assert [(label.name, label.verdict) for label in item.labels] == [
        ("c", "hit"), ("b", "hit"), ("a", "missed"), ("d", "wrong"),
    ]  # fmt: skip
    assert [item.count(verdict) for verdict in ("hit", "missed", "wrong")] == [2, 1, 1]
    assert GalleryLabel("x", True, False).probability is None


def test_threshold_curve_scores_each_point_of_the_grid() -> None:
    random = np.random.default_rng(0)
    truth = random.random((60, 5)) < 0.4
    probability = np.clip(truth * 0.4 + random.random((60, 5)) * 0.6, 0, 1)

    def score(predicted: np.ndarray, average: str) -> float:
        return float(f1_score(truth, predicted, average=average, zero_division=0))

    curve = ThresholdCurve.compute(FMetric("micro"), truth, probability, grid=[0.2, 0.45, 0.9])
    assert curve.scores["macro"][1] == pytest.approx(score(probability >= 0.45, "macro"))
    assert curve.chosen == [0.2, 0.45, 0.9][int(np.argmax(curve.scores["micro"]))]
    assert len(ThresholdCurve.compute(FMetric(), truth, probability).threshold) == 49


def test_content_is_checked_at_the_door() -> None:
    with pytest.raises(ValueError, match="support, f1"):
        made_up.content(per_label=made_up.label_table().drop(columns=["support", "f1"]))
    with pytest.raises(ValueError, match="leaderboard has no rows"):
        made_up.content(leaderboard=[])
    assert set(LABEL_COLUMNS) <= set(made_up.label_table())


def printed(rows: list[LeaderboardRow], width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(leaderboard_table(rows, FMetric()))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_terminal_table_holds_every_model_best_first() -> None:
    text = "\n".join(line.strip() for line in printed(made_up.rows()).splitlines())
    places = [
        text.index(name) for name in ("\nblend", "\ncnn", "\nxgb", "\nsmall_resnet", "\nmobilenet", "\nsmall_cnn")
    ]
    assert places == sorted(places)
    assert "0.752" in text
    assert "0.770" in text
    assert "0.748" in text
    assert "test" in text
    assert printed(made_up.rows(), 80).split() == text.split()


def test_terminal_table_prints_names_as_they_are() -> None:
    hostile = LeaderboardRow("[red]x[/red]\x1b[31m", "base model", cross_fitted=made_up.f1(0.5, None, None))
    text = printed([hostile])
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "test" not in text
    assert "–" in text


RANKING = metric_of(MetricSection(primary="mean_average_precision"))


def ranking_rows() -> list[LeaderboardRow]:
    """Two models, scored by rankings and by the label sets that are decided besides."""
    return [
        LeaderboardRow(
            name,
            kind,
            fixed={"samples_f1": f1},
            cross_fitted={"mean_average_precision": ranked, "samples_f1": f1},
            in_sample={"mean_average_precision": ranked + 0.01, "samples_f1": f1},
        )
        for name, kind, ranked, f1 in (("cnn", "stacker", 0.61, 0.7), ("blend", "blend", 0.64, 0.6))
    ]


def test_terminal_table_of_another_metric() -> None:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(leaderboard_table(ranking_rows(), RANKING))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Leaderboard: mAP, F1 on validation images" in text
    assert text.index("blend") < text.index("cnn")
    assert text.split("\n")[1].split() == ["mAP", "samples", "mAP"]
    assert [line.split()[2:] for line in text.split("\n") if line.startswith("blend")] == [["0.640", "0.600", "0.650"]]


def test_the_page_of_another_metric() -> None:
    page = render(made_up.brief(metric=RANKING, leaderboard=ranking_rows(), threshold_curve=made_up.curve())).decode()
    assert "mean average precision of <bdi>blend</bdi>, cross-fitted" in page
    assert "The blend's F1 if one threshold served all labels" in page
    assert page.count('<th colspan="2" scope="colgroup"') == 3
    assert 'data-column="2" aria-sort="descending"' in page
