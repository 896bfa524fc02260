"""A comparison in the terminal: tables that fit 100 columns; names are never markup."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labelstack.report.comparison import Against, LabelChange, SideBySide

WIDTH = 100
_LONGEST = 60
_STYLES = {"better": "bold green", "worse": "bold red", "unclear": "", "equal": "", "": "dim"}


def show(compared: SideBySide, *, all_rows: bool = False, console: Console | None = None) -> None:
    """Print where the sides come from, the leaderboard, differences, params and labels."""
    # without a terminal rich takes 80 columns
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    parts: list[Table | Text] = [_origins(compared), *_links(compared), _board(compared, all_rows)]
    for against in compared.against:
        parts += [_differences(compared, against), _labels(compared, against)]
    for part in [*parts, _params(compared)]:
        # an address stays in one piece, however long
        console.print(part, soft_wrap=isinstance(part, Text), highlight=False)
        if isinstance(part, Table):
            console.print()
    for note in compared.notes:
        console.print(_plain(f"note: {note}", 1000), style="dim")


def _plain(text: object, limit: int = _LONGEST) -> Text:
    """Text without markup, control characters replaced, long names cut."""
    clean = "".join(character if character.isprintable() else "\ufffd" for character in str(text))
    return Text(clean if len(clean) <= limit else clean[: limit - 1] + "…")


def _table(title: str | Text, headings: Sequence[str | Text], names: int = 1) -> Table:
    """The first ``names`` columns hold names, the others numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for place, heading in enumerate(headings):
        name = place < names
        table.add_column(heading, justify="left" if name else "right", overflow="fold", no_wrap=not name)
    return table


def _origins(compared: SideBySide) -> Table:
    table = Table(title="Compared", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("side", overflow="fold", max_width=24)
    table.add_column("what", no_wrap=True, style="dim")
    table.add_column("where it comes from", overflow="fold")
    for place, side in enumerate(compared.sides):
        lines = [*side.origin, ("row", side.row, None)]
        for number, (what, text, _) in enumerate(lines):
            name = _plain(side.name) if number == 0 else Text("(reference)" if number == 1 and place == 0 else "")
            table.add_row(name, _plain(what, 20), _plain(text, 300), end_section=number == len(lines) - 1)
    return table


def _links(compared: SideBySide) -> Iterable[Text]:
    urls = [(side.name, url) for side in compared.sides for _, _, url in side.origin if url]
    for name, url in urls:
        yield Text.assemble(_plain(name), ": ", _plain(url, 500))
    if urls:
        yield Text()


def _board(compared: SideBySide, all_rows: bool) -> Table:
    metric = compared.reference.metric
    others = [each for each in metric.family if each != metric]
    rows = [row for row in compared.board if all_rows or row.shown_first]
    headings: list[str | Text] = [
        "side",
        "row",
        _plain(metric.short),
        "95 % interval",
        *(_plain(each.short) for each in others),
    ]
    tested = any(row.test is not None for row in rows)
    table = _table(
        f"Leaderboard: {compared.score_name} on validation images, cross-fitted",
        [*headings, *([_plain(f"{metric.short} on test")] if tested else [])],
        names=2,
    )
    best = max((score for row in rows if (score := row.scores[metric.key]) is not None), default=None)
    for row in rows:
        score = row.scores[metric.key]
        cells = [Text(_score(score), style="bold" if score is not None and score == best else "")]
        cells.append(Text("–" if row.low is None or row.high is None else f"{row.low:.3f} … {row.high:.3f}"))
        cells += [Text(_score(row.scores[each.key])) for each in others]
        table.add_row(_plain(row.side), _plain(row.row), *cells, *([_score(row.test)] if tested else []))
    return table


def _differences(compared: SideBySide, against: Against) -> Table:
    title = Text.assemble(_plain(against.side.name), " against ", _plain(compared.reference.name))
    names = [_plain(compared.reference.name, 18), _plain(against.side.name, 18)]
    table = _table(title, ["score", *names, "difference", "95 % interval", ""])
    for row in against.differences:
        found = "other data" if row.basis == "other data" else "–"
        if row.low is not None and row.high is not None:
            found = f"{row.low:+.4f} … {row.high:+.4f}"
        cells = (f"{row.reference:.4f}", f"{row.value:.4f}", f"{row.difference:+.4f}", found)
        table.add_row(_plain(row.metric), *cells, Text(row.verdict, style=_STYLES[row.verdict]))
    return table


def _labels(compared: SideBySide, against: Against) -> Table | Text:
    if against.why_no_labels:
        return Text.assemble("Labels: not compared, ", _plain(against.why_no_labels, 300), "\n")
    title = f"Labels: {compared.label_score_name}, {against.changed_labels} of them changed"
    if not against.winners and not against.losers:
        return Text(f"{title}\n")
    table = _table(title, ["label", "images", "given", _plain(compared.label_score_name), "change", "95 % interval"])
    for heading, rows in (("winners", against.winners), ("losers", against.losers)):
        if rows:
            table.add_row(Text(heading, style="dim"))
            for row in rows:
                table.add_row(_plain(row.label, 40), *_label_cells(row))
    return table


def _label_cells(row: LabelChange) -> Iterable[str]:
    yield f"{row.positives:,}"
    yield "–" if row.reference_given is None or row.given is None else f"{row.reference_given:,} → {row.given:,}"
    yield f"{row.reference:.3f} → {row.value:.3f}"
    yield f"{row.change.score:+.3f}"
    yield f"{row.change.low:+.3f} … {row.change.high:+.3f}"


def _params(compared: SideBySide) -> Table | Text:
    if not compared.params:
        return Text(f"Params: {compared.no_params}\n")
    table = Table(title="Params that differ", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.show_edge = False
    table.add_column("key", overflow="fold")
    for side in compared.sides:
        table.add_column(_plain(side.name), overflow="fold")
    for row in compared.params:
        table.add_row(_plain(row.key, 100), *(_plain("–" if value is None else value, 120) for value in row.values))
    return table


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
