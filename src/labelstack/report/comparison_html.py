"""A comparison as one HTML file that asks the network for nothing and treats every name as hostile."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from labelstack.report import page
from labelstack.report.comparison import SideBySide
from labelstack.support.storage import replacing

_LEFT, _RIGHT = 5.0, 185.0  # of a drawn interval, in the units of its viewBox


def write_comparison(path: str | Path, content: SideBySide) -> None:
    """Write the page to ``path``, whole or not at all; equal content gives equal bytes."""
    rendered = render(content)
    with replacing(path) as temporary:
        temporary.write_bytes(rendered)


def render(content: SideBySide) -> bytes:
    """The page as UTF-8."""
    style = page.asset("report.css") + page.asset("comparison.css")
    changes = [row.change for against in content.against for row in (*against.winners, *against.losers)]
    differences = [
        (row.difference, row.low, row.high)
        for against in content.against
        for row in against.differences
        if row.low is not None
    ]
    text = page.environment({"score": _score, "number": _number, "place": _place}).get_template(
        "comparison.html.j2"
    ).render(
        content=content,
        metric=content.reference.metric,
        tested=any(row.test is not None for row in content.board),
        reach={"differences": _reach(differences), "labels": _reach(changes)},
        style=Markup(style),  # noqa: S704
    )  # fmt: skip
    return page.encoded(text)


def _reach(rows: Iterable[tuple[Any, ...]]) -> float:
    """The largest distance from 0 in rows of (value, low, high): what the drawn axes reach to, both ways."""
    return max((abs(value) for row in rows for value in row), default=0.0) or 1.0


def _place(value: float, reach: float) -> str:
    """Where a difference is drawn; what lies beyond the axis stands at its end."""
    share = min(max(value / reach, -1.0), 1.0)
    return f"{(_LEFT + _RIGHT) / 2 + share * (_RIGHT - _LEFT) / 2:.1f}"


def _score(value: Any) -> str:
    return "–" if page.absent(value) else f"{value:.4f}"


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:,}"
