"""`labelstack compare`: runs, registry versions, git revisions, DVC experiments and the files here, side by side."""

from __future__ import annotations

import tempfile
from pathlib import Path

from labelstack.commands.compare.names import CHAMPION, WORKSPACE, Found, Names
from labelstack.commands.compare.tracked import load_run, load_version
from labelstack.commands.compare.workspace import load_revision, load_workspace
from labelstack.report.comparison import Side, SideBySide, side_by_side
from labelstack.report.comparison_terminal import show
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.progress import bar
from labelstack.support.storage import writable


def run(names: list[str], *, html: Path | None, row: str, labels: int, all_rows: bool = False) -> None:
    """Print the comparison of what the names stand for, and write it as a page where ``html`` says so.

    The first is the reference. Without names the champion is compared with the files here; one name is compared with
    the champion.

    Raises
    ------
    UserError
        With everything that is wrong with the names at once, or when the page can't be written.
    """
    if html is not None:
        writable(html, "--html")
    compared = compare(names, row=row, labels=labels)
    show(compared, all_rows=all_rows)
    if html is not None:
        from labelstack.report.comparison_html import write_comparison

        write_comparison(html, compared)
        print(f"compare: {len(compared.sides)} sides → {html}", flush=True)


def compare(names: list[str], *, row: str, labels: int) -> SideBySide:
    """Find, load and compare."""
    sources = Names()
    notes = []
    if len(names) < 2:
        wanted = names or [WORKSPACE]
        notes.append(f"{', '.join(names) or 'no name'} given: {wanted[0]} is compared with the champion")
        names = [CHAMPION, *wanted]
    found = sources.find(names)
    sides, problems = [], []
    for one in bar(found, desc="compare: load", unit="side"):
        try:
            sides.append(load(sources, one, row))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise InputProblems("compare", problems)
    return side_by_side(sides, labels=labels, notes=[*notes, *sources.notes])


def load(sources: Names, found: Found, row: str) -> Side:
    """The side that a name stands for; raise ``UserError`` when it has no results, or no such row."""
    with tempfile.TemporaryDirectory(prefix="labelstack-compare-") as folder:
        match found.kind:
            case "workspace":
                return load_workspace(sources, found.name, row)
            case "rev":
                return load_revision(sources, found.name, found.what, row, Path(folder))
            case "version":
                return load_version(sources, found.name, found.what, row, Path(folder))
            case "run":
                return load_run(sources, found.name, found.what, row, Path(folder))
