"""The leaderboard as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from labelstack.report.content import LeaderboardRow, best_score, ranked
from labelstack.report.figures import plain
from labelstack.scoring.metric import Metric, family_name


def leaderboard_table(
    rows: Sequence[LeaderboardRow],
    metric: Metric,
    *,
    fixed_threshold: float | None = 0.3,
    images: str = "validation images",
) -> Table:
    """Rows ranked by cross-fitted score, the best of each column bold; fits 80 columns, names are never markup.

    ``images`` are those that were scored, in words; ``fixed_threshold`` None: no label is given by one.
    """
    rows = ranked(rows, metric)
    columns = [(f"{each.short}\ncross-\nfitted", "cross_fitted", each) for each in metric.family]
    if metric.wants == "label_sets" and fixed_threshold is not None:
        columns.append((f"{metric.short}\nat\n{fixed_threshold:g}", "fixed", metric))
    columns.append((f"{metric.short}\nin-\nsample", "in_sample", metric))
    for new in ("audit", "test"):
        if any(row.score(new, metric.key) is not None for row in rows):
            columns.append((f"{metric.short}\n{new}", new, metric))

    title = f"Leaderboard: {family_name(metric)} on {images}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("model", overflow="fold", min_width=12)
    table.add_column("kind", no_wrap=True)
    for heading, scoring, _ in columns:
        table.add_column(Text(heading), justify="right", no_wrap=True, style="" if scoring == "cross_fitted" else "dim")
    table.add_column("weight", justify="right", no_wrap=True)

    scores = [[row.score(scoring, each.key) for _, scoring, each in columns] for row in rows]
    best = [best_score(rows, scoring, each.key) for _, scoring, each in columns]
    for row, values in zip(rows, scores, strict=True):
        cells = [
            Text("–" if value is None else f"{value:.3f}", style="bold" if value is not None and value == top else "")
            for value, top in zip(values, best, strict=True)
        ]
        weight = "" if row.weight is None else f"{row.weight:.2f}"
        kind = "flattered" if row.flattered else row.kind.removesuffix(" model")
        table.add_row(Text(plain(row.name, 60)), kind, *cells, weight)
    return table
