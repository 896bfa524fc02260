"""Figures draw what they are given, whatever the names, and always to the same bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from labelstack.report import figures
from labelstack.report.content import LeaderboardRow, ThresholdCurve
from labelstack.scoring.metric import FMetric
from report import made_up

HOSTILE = r"$\frac{$ <b>&]]>-->" + "\x00\x1b\ud800 _Ж衣👗"
DRAWINGS: dict[str, Callable[..., Figure]] = {
    "leaderboard": lambda **look: figures.leaderboard(made_up.rows(), FMetric(), **look),
    "per_label_f1": lambda **look: figures.per_label_f1(made_up.label_table(list("abcdef")), **look),
    "training_curves": lambda **look: figures.training_curves({"a": made_up.history(0)}, **look),
    "threshold_curves": lambda **look: figures.threshold_curves(made_up.curve(), **look),
    "blend_weights": lambda **look: figures.blend_weights({"a": 0.7, "b": 0.3, "c": 0.0}, **look),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_same_input_gives_the_same_bytes(name: str) -> None:
    draw = DRAWINGS[name]
    assert figures.figure_png(draw()) == figures.figure_png(draw())
    svg = figures.figure_svg(draw())
    assert svg == figures.figure_svg(draw())
    assert b"<!--" not in svg
    assert b"dc:date" not in svg
    assert svg != figures.figure_svg(draw(theme=figures.DARK, width=figures.NARROW))


def test_drawing_leaves_global_settings_alone() -> None:
    before = dict(matplotlib.rcParams)
    for draw in DRAWINGS.values():
        figures.figure_svg(draw())
    assert dict(matplotlib.rcParams) == before


def test_hostile_names_are_drawn_as_text() -> None:
    rows = [LeaderboardRow(HOSTILE, "base model", cross_fitted=made_up.f1(0.5, 0.5, 0.5))]
    drawn = [
        figures.leaderboard(rows, FMetric()),
        figures.per_label_f1(made_up.label_table(["a", "b"]).astype({"label": object}).replace("a", HOSTILE)),
        figures.training_curves({HOSTILE: made_up.history(0), "_hidden": made_up.history(1)}),
        figures.blend_weights({HOSTILE: 1.0}),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fig in drawn:
            root = ElementTree.fromstring(figures.figure_svg(fig))
            assert root.tag.endswith("svg")
    assert [text.get_text() for text in drawn[2].legends[0].get_texts()][1] == "_hidden"
    assert len(figures.plain("x" * 200)) == 30
    assert "\x00" not in figures.plain(HOSTILE)


def test_leaderboard_places_each_model_once_with_the_best_on_top() -> None:
    fig = figures.leaderboard(made_up.rows(), FMetric())
    ax = fig.axes[0]
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names[int(np.argmax(ax.get_yticks()))] == "blend"
    assert len(names) == 6
    cross_fitted = ax.collections[0].get_offsets()
    assert np.asarray(cross_fitted)[0, 0] == pytest.approx(0.752)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [
        "cross-fitted", "fixed threshold", "in-sample", "test",
    ]  # fmt: skip


def test_per_label_bars_match_the_table_and_split_into_columns() -> None:
    table = made_up.label_table()
    one = figures.per_label_f1(table)
    assert len(one.axes) == 1
    widths = [bar.get_width() for bar in one.axes[0].patches]
    assert widths == pytest.approx(sorted(table["f1"], reverse=True))
    assert f"{table['support'][0]} / {table['predicted'][0]}" in {text.get_text() for text in one.axes[0].texts}

    many = made_up.label_table([f"label {i}" for i in range(228)])
    split = figures.per_label_f1(many)
    assert len(split.axes) == 4
    assert sum(len(ax.patches) for ax in split.axes) == 228


def test_training_curves_take_histories_without_a_holdout() -> None:
    bare = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.4], "holdout_loss": [np.nan, np.nan]})
    fig = figures.training_curves({"bare": bare, "full": made_up.history(0)})
    assert [len(ax.lines) for ax in fig.axes] == [3, 1, 1]
    assert "score" in figures.training_curves({"bare": bare}).axes[1].get_title(loc="left")


@pytest.mark.parametrize(
    ("column", "title"),
    [
        ("holdout_f1", "holdout samples F1"),
        ("holdout_samples_f1", "holdout samples F1"),
        ("holdout_macro_f2", "holdout macro F2"),
        ("holdout_micro_f0.5", "holdout micro F0.5"),
    ],
)
def test_the_holdout_panel_says_what_was_measured(column: str, title: str) -> None:
    history = made_up.history(0).rename(columns={"holdout_samples_f1": column})
    fig = figures.training_curves({"a": history})
    assert fig.axes[1].get_title(loc="left") == title
    assert len(fig.axes[1].lines) == 1


def test_threshold_curve_marks_the_fixed_and_the_chosen_point() -> None:
    fig = figures.threshold_curves(made_up.curve())
    labels = [text.get_text() for text in fig.legends[0].get_texts()]
    assert labels == ["samples", "micro", "macro", "fixed 0.3", "best 0.36"]
    grid = np.array([0.1, 0.5])
    without = figures.threshold_curves(ThresholdCurve(grid, {"samples": grid, "micro": grid, "macro": grid}))
    assert len(without.axes[0].lines) == 4


def test_colours_of_both_themes_stand_out_from_the_paper() -> None:
    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def contrast(a: str, b: str) -> float:
        high, low = sorted((luminance(a), luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for theme in (figures.LIGHT, figures.DARK):
        assert contrast(theme.ink, theme.paper) > 7
        assert contrast(theme.muted, theme.paper) > 4.5
        assert min(contrast(colour, theme.paper) for colour in theme.series[:3]) > 3
