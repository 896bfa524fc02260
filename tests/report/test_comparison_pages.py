"""The comparison as people see it: the terminal, and the page in headless Chromium on a desk and on a phone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from browser import Browser, browser
from labelstack.report.comparison import SideBySide, side_by_side
from labelstack.report.comparison_html import render, write_comparison
from labelstack.report.comparison_terminal import show
from report.sides import TRUTH, hostile, large, made_up, side

SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def compared() -> SideBySide:
    return made_up()


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


class Page(HTMLParser):
    """Tags that are open at the end or were closed out of turn, and the text of every table row."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.seen: set[str] = set()
        self.rows: list[list[str]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data.strip()


def printed(content: SideBySide, width: int = 100, **options: bool) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    show(content, console=console, **options)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_terminal_shows_everything_within_100_columns(compared: SideBySide) -> None:
    text = printed(compared)
    assert max(len(line) for line in text.splitlines()) <= 100
    lines = [line.split() for line in text.splitlines()]
    first = compared.against[0].differences[0]
    scores = [f"{first.reference:.4f}", f"{first.value:.4f}", f"{first.difference:+.4f}"]
    assert ["samples", "F1,", "cross-fitted", *scores, f"{first.low:+.4f}", "…", f"{first.high:+.4f}", "worse"] in lines
    assert text.count("other data") == len(compared.against[1].differences)
    assert "Labels: not compared, other validation data" in text
    assert ["seed", "1", "2", "3"] in lines
    assert "note: one name given" in text
    assert "@champion: http://127.0.0.1:5000/#/runs/1" in text.splitlines()
    won = compared.against[0].winners[0]
    assert any(line[:3] == [*won.label.split(), str(won.positives)] for line in lines)
    assert ["@champion", "wide", "base", "model"] not in [line[:4] for line in lines]


def test_terminal_shows_all_rows_when_asked(compared: SideBySide) -> None:
    assert printed(compared, all_rows=True).count(" cnn ") == 3
    assert printed(compared).count(" cnn ") == 0


def test_terminal_treats_names_as_text() -> None:
    text = printed(hostile())
    assert "[red]" in text
    assert "\x1b" not in text
    assert "\x00" not in text


def test_terminal_without_differences() -> None:
    text = printed(side_by_side([large("a", 1), large("b", 1)]))
    assert "Labels: F1, 0 of them changed" in text
    assert "Params: no difference" in text
    assert " equal" in text
    bare = printed(side_by_side([side("a", rows={"blend": {"kind": "blend"}}), side("b")]))
    assert "no label sets of a and b" in bare


def test_page_is_well_formed_and_shows_the_numbers(compared: SideBySide) -> None:
    page = Page(render(compared))
    assert (page.open, page.wrong) == ([], [])
    assert "script" not in page.seen
    first = compared.against[0].differences[0]
    found = f"{first.low:+.4f} … {first.high:+.4f}"
    assert [
        first.metric, f"{first.reference:.4f}", f"{first.value:.4f}", f"{first.difference:+.4f}", found, "", "worse",
    ] in page.rows  # fmt: skip
    assert sum(row[:1] in (["@champion"], ["equal-weights"], ["run:blend/ensemble"]) for row in page.rows) == 9
    assert ["seed", "1", "2", "3"] in page.rows
    assert sum("winner" in row for row in page.rows) == 5
    assert sum("loser" in row for row in page.rows) == 5
    assert render(made_up()) == render(compared)


def test_page_says_what_is_lacking() -> None:
    nothing = side_by_side([side("a", rows={"blend": {"kind": "blend"}}), side("b")])
    text = render(nothing).decode()
    assert "no score in common" in text
    assert "no difference" in text
    assert "Not compared: no label sets of a and b" in text
    same = render(side_by_side([large("a", 1), large("b", 1)])).decode()
    assert "the same labels" in same
    plain = render(side_by_side([side("a", TRUTH), side("b", TRUTH, scored=None)])).decode()
    assert "without an interval" in plain


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_page_fits_the_screen(window: Browser, compared: SideBySide, screen: str, scheme: str, tmp_path: Path) -> None:
    path = tmp_path / "comparison.html"
    write_comparison(path, compared)
    window.viewport(*SCREENS[screen], phone=screen == "phone")
    window.colour_scheme(scheme)
    window.requests()
    window.open(path.as_uri(), wait_for="#params")
    assert window.evaluate("[document.scrollingElement.scrollWidth, innerWidth]") == [SCREENS[screen][0]] * 2
    assert window.console_errors() == []
    assert window.requests() == [path.as_uri()]
    dark = "getComputedStyle(document.body).backgroundColor === 'rgb(23, 26, 30)'"
    assert window.evaluate(dark) == (scheme == "dark")
    assert window.count("svg.forest") == 10 + sum(len(against.differences) for against in compared.against)
    assert window.count("a[href^='http']") == 3
    assert window.screenshot(tmp_path / f"{screen}-{scheme}.png", full_page=True).stat().st_size > 50_000


def test_drawn_intervals_stand_where_their_numbers_say(window: Browser, compared: SideBySide, tmp_path: Path) -> None:
    path = tmp_path / "comparison.html"
    write_comparison(path, compared)
    window.open(path.as_uri())
    rows = [row for against in compared.against for row in against.differences if row.low is not None]
    reach = max(abs(value) for row in rows for value in (row.difference, row.low, row.high))
    place = "[...document.querySelectorAll('#differences .dot')].map(e => Number(e.getAttribute('cx')))"
    drawn = list(window.evaluate(place))[: len(rows)]
    assert drawn == pytest.approx([95 + 90 * row.difference / reach for row in rows], abs=0.06)


def test_hostile_names_run_nothing_and_break_nothing(window: Browser, tmp_path: Path) -> None:
    path = tmp_path / "comparison.html"
    write_comparison(path, hostile())
    window.viewport(*SCREENS["phone"], phone=True)
    window.requests()
    window.open(path.as_uri())
    assert window.driver.title != "owned"
    assert window.count("script") == 0
    assert window.count("img") == 0
    assert window.count("a[href^='javascript']") == 0
    assert "</script><script>" in window.text("h1")
    assert window.evaluate("[document.scrollingElement.scrollWidth, innerWidth]") == [390, 390]
    assert window.console_errors() == []
    assert window.requests() == [path.as_uri()]
