"""Figures for the report, for MLflow and as files: every function returns a Figure and touches no global state."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labelstack.report.content import LeaderboardRow, ThresholdCurve, ranked
from labelstack.scoring.metric import Metric, found_holdout_column, holdout_score_name

WIDE, NARROW = 11.0, 3.9  # inches: at these widths 9 pt type is about 12 px on a desktop page and on a phone
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_LABELS_PER_COLUMN = 60
_SCORINGS = (
    ("cross_fitted", "cross-fitted", "o"),
    ("fixed", "fixed threshold", "x"),
    ("in_sample", "in-sample", "o"),
    ("test", "test", "D"),
)


@dataclass(frozen=True)
class Theme:
    """Colours of a figure; series colours are Okabe and Ito's (jfly.uni-koeln.de/color), safe for colour-blind eyes."""

    paper: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]


LIGHT = Theme(
    "#ffffff", "#1d2126", "#5c6570", "#dfe3e8", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
)
DARK = Theme(
    "#171a1e", "#e6e9ed", "#a2abb6", "#33393f", ("#56b4e9", "#e69f00", "#2fc296", "#dc95bd", "#f0e442", "#ee7733")
)


def plain(text: object, limit: int = 30) -> str:
    """Text that is safe to draw: control characters replaced, long names shortened with an ellipsis."""
    clean = "".join(character if character.isprintable() else "\ufffd" for character in str(text))
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def leaderboard(rows: Sequence[LeaderboardRow], metric: Metric, *, width: float = WIDE, theme: Theme = LIGHT) -> Figure:
    """Dots per model, best at the top: cross-fitted, fixed threshold, in-sample and, where known, test scores."""
    rows = ranked(rows, metric)
    fig = empty_figure(width, 1.15 + 0.34 * len(rows) + (0.3 if width < 6 else 0), theme)
    ax = _axes(fig.add_subplot(), theme, grid="x")
    height = np.arange(len(rows))[::-1]
    for scoring, label, marker in _SCORINGS:
        value = np.array([np.nan if (v := row.score(scoring, metric.key)) is None else v for row in rows], dtype=float)
        if np.isnan(value).all():
            continue
        colour = theme.series[{"cross_fitted": 0, "test": 1}.get(scoring, 0)] if marker != "x" else theme.muted
        face = "none" if scoring == "in_sample" else colour
        size = 55 if scoring in ("cross_fitted", "in_sample") else 38
        ax.scatter(value, height, marker=marker, s=size, facecolor=face if marker != "x" else colour, zorder=3,
                   label=label, linewidth=1.4, edgecolor=None if marker == "x" else colour)  # fmt: skip
    _names(ax, height, [row.name for row in rows], theme, limit=30 if width > 6 else 16)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel(plain(metric.title, 60), color=theme.ink, parse_math=False)
    _legend(fig, ax, theme, columns=4 if width > 6 else 2)
    return fig


def per_label_f1(table: pd.DataFrame, *, score_name: str = "F1", width: float = WIDE, theme: Theme = LIGHT) -> Figure:
    """Bars of f1 per label, best first, with validation counts; columns label, f1, support, predicted."""
    table = table.sort_values("f1", ascending=False, kind="stable", na_position="last").reset_index(drop=True)
    columns = min(4, max(1, math.ceil(len(table) / _LABELS_PER_COLUMN)))
    rows = max(1, math.ceil(len(table) / columns))
    fig = empty_figure(width, 0.9 + 0.19 * rows, theme)
    for column in range(columns):
        part = table.iloc[column * rows : (column + 1) * rows]
        ax = _axes(fig.add_subplot(1, columns, column + 1), theme, grid="x")
        height = np.arange(len(part))[::-1] + rows - len(part)
        ax.barh(height, part["f1"].fillna(0), height=0.7, color=theme.series[0])
        for y, f1, support, predicted in zip(height, part["f1"], part["support"], part["predicted"], strict=True):
            ax.text((0 if np.isnan(f1) else f1) + 0.01, y, f"{support:.0f} / {predicted:.0f}", va="center",
                    fontsize=7, color=theme.muted)  # fmt: skip
        _names(ax, height, list(part["label"]), theme, limit=28 if columns == 1 else 18, size=7.5)
        ax.set_xlim(0, 1.1 if columns == 1 else 1.3)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.set_ylim(-0.7, rows - 0.3)
    fig.supxlabel(f"{score_name}; beside each bar: true / predicted images", color=theme.ink, fontsize=9)
    return fig


def holdout_scores(histories: Iterable[pd.DataFrame]) -> str:
    """What training histories say they measured on the holdout: ``samples F1``."""
    columns = {column: None for history in histories if (column := found_holdout_column(map(str, history)))}
    return ", ".join(holdout_score_name(column) for column in columns) or "score"


def training_curves(curves: Mapping[str, pd.DataFrame], *, width: float = WIDE, theme: Theme = LIGHT) -> Figure:
    """Loss (solid train, dashed holdout), holdout score and learning rate over epochs, one colour per base model."""
    stacked = width < 6
    fig = empty_figure(width, 6.6 if stacked else 3.4, theme)
    panels = [_axes(fig.add_subplot(3, 1, i + 1) if stacked else fig.add_subplot(1, 3, i + 1), theme) for i in range(3)]
    handles: list[Line2D] = []
    for index, history in enumerate(curves.values()):
        style = _series(index, theme)
        every = max(1, len(history) // 8)
        judged = found_holdout_column(map(str, history)) or ""
        for panel, key, line in ((0, "loss", "-"), (0, "holdout_loss", "--"), (1, judged, "-"), (2, "learning_rate", "-")):  # fmt: skip  # noqa: E501
            if key in history and history[key].notna().any():
                panels[panel].plot(history["epoch"], history[key], line, **style, markevery=every)
        handles.append(Line2D([], [], linestyle="-", **style))
    for ax, title in zip(
        panels, ("loss (dashed: holdout)", f"holdout {holdout_scores(curves.values())}", "learning rate"), strict=True
    ):
        ax.set_title(title, loc="left", fontsize=9.5, color=theme.ink)
        ax.set_xlabel("epoch", color=theme.ink)
        ax.locator_params(axis="x", integer=True)
    panels[2].yaxis.set_major_formatter(lambda rate, _: f"{rate:.3g}")
    if handles:
        _legend(fig, panels[0], theme, columns=2 if stacked else 6, handles=handles, names=list(curves))
    return fig


def threshold_curves(curve: ThresholdCurve, *, width: float = WIDE, theme: Theme = LIGHT) -> Figure:
    """The blend's scores over one threshold for all labels, with the fixed and the chosen threshold marked."""
    fig = empty_figure(width, 3.4 if width > 6 else 3.2, theme)
    ax = _axes(fig.add_subplot(), theme)
    for index, (short, scores) in enumerate(curve.scores.items()):
        line, colour = ("-", "--", "-.")[index % 3], theme.series[index % len(theme.series)]
        ax.plot(curve.threshold, scores, line, color=colour, linewidth=1.8, label=short)
    ax.axvline(curve.fixed, color=theme.muted, linewidth=1, linestyle=":", label=f"fixed {curve.fixed:g}")
    if curve.chosen is not None:
        ax.axvline(curve.chosen, color=theme.ink, linewidth=1, label=f"best {curve.chosen:.2f}")
        for scores, colour in zip(curve.scores.values(), theme.series, strict=False):
            value = np.interp(curve.chosen, curve.threshold, scores)
            ax.plot(curve.chosen, value, "o", color=colour, markeredgecolor=theme.paper, markersize=7, zorder=4)
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("threshold, the same for all labels", color=theme.ink)
    ax.set_ylabel(plain(curve.name, 60), color=theme.ink, parse_math=False)
    _legend(fig, ax, theme, columns=5 if width > 6 else 3)
    return fig


def blend_weights(weights: Mapping[str, float], *, width: float = WIDE, theme: Theme = LIGHT) -> Figure:
    """Bars of each member's share in the blend, largest first; members without weight are shown too."""
    members = sorted(weights, key=lambda name: -weights[name])
    fig = empty_figure(width, 0.8 + 0.3 * max(1, len(members)), theme)
    ax = _axes(fig.add_subplot(), theme, grid="x")
    height = np.arange(len(members))[::-1]
    ax.barh(height, [weights[name] for name in members], height=0.62, color=theme.series[0])
    for y, name in zip(height, members, strict=True):
        ax.annotate(f"{weights[name]:.2f}", (max(weights[name], 0), float(y)), xytext=(4, 0),
                    textcoords="offset points", va="center", fontsize=8.5, color=theme.ink)  # fmt: skip
    _names(ax, height, members, theme)
    ax.set_xlim(0, max([*weights.values(), 0.1]) * 1.12)
    ax.set_xlabel("weight in the blend", color=theme.ink)
    return fig


def figure_png(fig: Figure, dpi: int = 110) -> bytes:
    """PNG bytes; the same figure gives the same bytes."""
    return _save(fig, format="png", dpi=dpi, metadata={"Software": None})


def figure_svg(fig: Figure) -> bytes:
    """SVG bytes with text as outlines; the same figure gives the same bytes."""
    with matplotlib.rc_context({"svg.hashsalt": "labelstack", "svg.fonttype": "path"}):
        svg = _save(fig, format="svg", metadata={"Date": None, "Creator": None})
    # The outlines carry their text once more, in comments.
    return re.sub(rb"\s*<!--.*?-->", b"", svg, flags=re.DOTALL)


def _save(fig: Figure, **options: object) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        fig.savefig(buffer, facecolor=fig.get_facecolor(), **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def empty_figure(width: float, height: float, theme: Theme) -> Figure:
    """A figure of so many inches on the theme's paper."""
    fig = Figure(figsize=(width, height), layout="constrained", facecolor=theme.paper)
    FigureCanvasAgg(fig)
    return fig


def _axes(ax: Axes, theme: Theme, grid: str = "both") -> Axes:
    ax.set_facecolor(theme.paper)
    ax.grid(axis=grid, color=theme.grid, linewidth=0.8)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    ax.tick_params(colors=theme.muted, labelsize=8.5, length=0, pad=5)
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.muted)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_fontsize(9)
    return ax


def _series(index: int, theme: Theme) -> dict[str, Any]:
    colour = theme.series[index % len(theme.series)]
    return {"color": colour, "linewidth": 1.6, "marker": _MARKERS[index % len(_MARKERS)], "markersize": 4.5}


def _names(
    ax: Axes, height: np.ndarray, names: Sequence[str], theme: Theme, *, limit: int = 30, size: float = 8.5
) -> None:
    """Names along the y axis; ``parse_math`` is off because a name may hold a dollar sign."""
    ax.set_yticks(height, [plain(name, limit) for name in names], fontsize=size, color=theme.ink, parse_math=False)


def _legend(
    fig: Figure, ax: Axes, theme: Theme, *, columns: int, handles: Sequence[Line2D] | None = None,
    names: Sequence[str] | None = None,
) -> None:  # fmt: skip
    shown, labels = ax.get_legend_handles_labels() if handles is None else (list(handles), list(names or ()))
    legend = fig.legend(
        shown, [str(i) for i in range(len(shown))], loc="outside lower center", ncols=min(columns, max(1, len(shown))),
        frameon=False, fontsize=8.5, handlelength=2.2,
    )  # fmt: skip
    # Set afterwards: matplotlib drops names that start with an underscore and typesets those with dollar signs.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set(text=plain(label), color=theme.ink)
