"""The tables of `labelstack bench` for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labelstack.params.second_level_file import SecondLevel
from labelstack.report.figures import plain
from labelstack.scoring.bootstrap import Interval
from labelstack.scoring.metric import Metric, family_name, metric_of
from labelstack.stacking.bench.table import BenchResult, Row

_WIDTH = 132  # what the widest table needs; used where the output is no terminal


def print_tables(result: BenchResult, about: dict[str, Any], settings: SecondLevel) -> None:
    """Head, table of methods, what the default is made of, table of decisions, and how to read them."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    test = f", {about['test_images']:,} test images" if about["test_images"] else ", no test pair"
    _print(
        console,
        f"{about['source']}: {about['images']:,} images × {about['models']} models × {about['labels']} labels{test}; "
        f"{about['folds']} folds, {about['metric']}, second level: {about['params']}\n",
    )
    console.print(method_table(result.rows, settings))
    for note in _notes(result, settings):
        _print(console, note)
    if result.decisions:
        console.print()
        console.print(decision_table(result, settings))
    console.print()


def method_table(rows: Sequence[Row], settings: SecondLevel) -> Table:
    """One line for each method; the best of each column of scores is bold."""
    judge = metric_of(settings.metric).decides
    tested = any(row.test for row in rows)
    table = _table(
        f"Methods: {family_name(judge)} cross-fitted" + (" and on the test pair" if tested else ""), "method"
    )
    for heading in ("fit\ns", "predict\ns", "peak\nMB", "× scikit-\nlearn"):
        table.add_column(heading, justify="right", no_wrap=True, style="dim")
    _score_columns(table, judge, tested)
    best = _best([row for row in rows if not row.error and row.kind != "reference"], judge)
    for row in rows:
        name = f"{row.name} ({row.details['note']})" if "note" in row.details else row.name
        cost = [
            _seconds(row.fit_seconds) + ("*" if row.details.get("estimated") else ""),
            _seconds(row.predict_seconds),
            "–" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:,.0f}",
            _ratio(row.faster),
        ]
        if row.error:
            table.add_row(Text(plain(name, 40)), *cost, Text("failed", style="bold red"))
            continue
        scores = _scores(row.cross_fitted, row.interval, best[0], judge)
        scores += _scores(row.test, None, best[1], judge) if tested else []
        table.add_row(Text(plain(name, 40)), *cost, *scores)
    return table


def decision_table(result: BenchResult, settings: SecondLevel) -> Table:
    """Every strategy on the default's probabilities, and its paired gain over the fixed threshold."""
    judge = metric_of(settings.metric).decides
    shorts = [each.short for each in judge.family]
    rows = result.decisions
    tested = any("test" in row for row in rows.values())
    table = _table(f"Decisions on the default's probabilities: {family_name(judge)} cross-fitted", "strategy")
    table.add_column(f"gain over {settings.thresholds.fixed:g}\n95 % interval", justify="right", no_wrap=True)
    _score_columns(table, judge, tested)
    found = {name: {each.short: row["cross_fitted"][each.key] for each in judge.family} for name, row in rows.items()}
    tops = [
        {a: max(scores[a] for scores in found.values()) for a in shorts},
        {a: max(row["test"][a] for row in rows.values()) for a in shorts} if tested else {},
    ]
    for name, row in rows.items():
        fitted = row["cross_fitted"]
        gain = Interval(fitted["gain"], fitted["gain_low"], fitted["gain_high"])
        bounds = Interval(found[name][judge.short], fitted["low"], fitted["high"])
        scores = _scores(found[name], bounds, tops[0], judge)
        scores += _scores(row["test"], None, tops[1], judge) if tested else []
        signed = "" if name == "fixed" else f"{gain.score:+.4f} {gain.low:+.4f} … {gain.high:+.4f}"
        table.add_row(Text(name), signed, *scores)
    return table


def verdict(result: BenchResult, settings: SecondLevel) -> str:
    """What won, with its interval, and by how much."""
    winner, judge = result.winner, metric_of(settings.metric).decides
    if winner is None or winner.cross_fitted is None or winner.interval is None:
        return "nothing was scored"
    score, (_, low, high) = winner.cross_fitted[judge.short], winner.interval
    text = f"{winner.name} won, cross-fitted {judge.title} {score:.4f} [{low:.4f}, {high:.4f}]"
    for name, gain in (("best_single", result.gain), ("default", result.against_default)):
        if gain is not None:
            text += f", {gain.score:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] on {name}"
    if winner.test is not None:
        text += f", test {winner.test[judge.short]:.4f}"
    return text


def _notes(result: BenchResult, settings: SecondLevel) -> list[str]:
    default, reference = result.row("default"), next((r for r in result.rows if r.kind == "reference"), None)
    nested = settings.folds.nested and settings.folds.k > 2
    whole = f"; default: everything{', its nested fits too' if nested else ''}" if default else ""
    notes = [
        f"fit: all {settings.folds.k} folds{whole}. predict: all fold models. "
        "peak: resident memory of a fresh process for each method, libraries and data included.",
        f"Every method decides by thresholds.strategy: {settings.thresholds.strategy}, chosen on the other folds; "
        "intervals: 95 %, bootstrap over images.",
    ]
    if reference is not None and reference.details.get("estimated"):
        notes.append(
            f"* {reference.details['seconds_per_label']:.3g} s a label and fold, measured on "
            f"{len(reference.details['labels'])} labels of one fold, × labels × folds."
        )
    if default is not None and not default.error:
        weights = ", ".join(f"{plain(name, 40)} {w:.2f}" for name, w in default.details["weights"].items())
        notes.append(f"default: {weights}; decision: {default.details['strategy']}.")
    return notes


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first, overflow="fold", min_width=12)
    return table


def _score_columns(table: Table, judge: Metric, tested: bool) -> None:
    for each in judge.family:
        heading = f"{each.short}\n95 % interval" if each == judge else f"{each.short}\n"
        table.add_column(heading, justify="right", no_wrap=True, style="" if each == judge else "dim")
    for each in judge.family if tested else ():
        style = "" if each == judge else "dim"
        table.add_column(f"test\n{each.short}", justify="right", no_wrap=True, style=style)


def _best(rows: Sequence[Row], judge: Metric) -> list[dict[str, float]]:
    """Largest cross-fitted and test score of each metric."""
    columns = [[row.cross_fitted for row in rows], [row.test for row in rows]]
    shorts = [each.short for each in judge.family]
    return [{a: max((s[a] for s in column if s), default=2.0) for a in shorts} for column in columns]


def _scores(
    scores: Mapping[Any, float] | None, interval: Interval | None, best: Mapping[Any, float], judge: Metric
) -> list[Text]:
    if scores is None:
        return [Text("–") for _ in judge.family]
    cells = []
    for each in judge.family:
        score = scores[each.short]
        cell = Text(f"{score:.4f}", style="bold" if score == best[each.short] else "")
        if each == judge and interval is not None:
            cell.append(f" {interval.low:.4f}–{interval.high:.4f}", style="dim not bold")
        cells.append(cell)
    return cells


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    if value == 0:  # nothing to do, as for a base model
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value >= 10 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    if value is None or value >= 100_000:
        return "–" if value is None else "> 100,000"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False)
