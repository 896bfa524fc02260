"""The leaderboard as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from labelstack.report.content import AVERAGES, Average, LeaderboardRow, ranked
from labelstack.report.figures import plain


def leaderboard_table(
    rows: Sequence[LeaderboardRow],
    *,
    primary: Average = "samples",
    score_name: str = "F1",
    fixed_threshold: float = 0.3,
) -> Table:
    """Rows ranked by cross-fitted score, the best of each column bold; fits 80 columns, names are never markup."""
    rows = ranked(rows, primary)
    columns: list[tuple[str, str, Average]] = [
        (f"{average}\ncross-\nfitted", "cross_fitted", average) for average in AVERAGES
    ]
    columns += [
        (f"{primary}\nat\n{fixed_threshold:g}", "fixed", primary),
        (f"{primary}\nin-\nsample", "in_sample", primary),
    ]
    if any(row.score("test", primary) is not None for row in rows):
        columns.append((f"{primary}\ntest", "test", primary))

    title = f"Leaderboard: {score_name} on validation images"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("model", overflow="fold", min_width=12)
    table.add_column("kind", no_wrap=True)
    for heading, scoring, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True, style="" if scoring == "cross_fitted" else "dim")
    table.add_column("weight", justify="right", no_wrap=True)

    scores = [[row.score(scoring, average) for _, scoring, average in columns] for row in rows]
    best = [max((value for value in column if value is not None), default=None) for column in zip(*scores, strict=True)]
    for row, values in zip(rows, scores, strict=True):
        cells = [
            Text("–" if value is None else f"{value:.3f}", style="bold" if value is not None and value == top else "")
            for value, top in zip(values, best, strict=True)
        ]
        weight = "" if row.weight is None else f"{row.weight:.2f}"
        table.add_row(Text(plain(row.name, 60)), row.kind.removesuffix(" model"), *cells, weight)
    return table
