"""`labelstack promote`: the champion by hand, back again, and who was champion when."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labelstack.registry.champions import How, Move, champion, history, move_champion, previous, require_reason
from labelstack.registry.fetched import fetch_checked
from labelstack.registry.promotion import PROMOTION_TAG, compare_versions, describe
from labelstack.registry.versions import DATA_TAG, METRIC_TAG, SCORE_TAG, all_versions, read_version, resolve
from labelstack.scoring.metric import FMetric, Metric, metric_of_key
from labelstack.stages.common import done, tracking_here
from labelstack.support.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.lineage import EXPERIMENT
from labelstack.tracking.runs import Tracker, connect

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def run(version: str | None, *, reason: str = "", back: bool = False) -> None:
    """Move the champion to a version, or back to the one before; without either, show versions and history.

    Raises
    ------
    UserError
        When the version is unknown or champion already, there is nothing to go back to, or no reason is given.
    """
    if back and version:
        raise UserError(f"--back goes to the champion before: leave {version} out, or leave --back out")
    if not back and version is None:
        if reason:
            raise UserError("which version? `labelstack promote 3 --reason …`, or `--back --reason …`")
        show(connect(tracking_here(), create=False))
        return
    reason = require_reason(reason)
    tracker = connect(tracking_here(), create=False)
    if back:
        name = tracker.registered_model
        to = champion_before(tracker, name)
    else:
        found = resolve(tracker, str(version))
        name, to = found.name, int(found.version)
    move(tracker, name, to, "back" if back else "by hand", reason)


def move(tracker: Tracker, name: str, to: int, how: How, reason: str) -> None:
    """Make a version champion, tell how it compares with the present one, and note who did it and why.

    Raises
    ------
    UserError
        When it is champion already, or its files are not the registered ones.
    """
    held = champion(tracker, name)
    if held == to:
        raise UserError(f"{name} v{to} is champion already")
    with tempfile.TemporaryDirectory(prefix="labelstack-") as folder:
        fetch_checked(tracker, read_version(tracker, name, to), Path(folder) / "version")
    if held is not None:
        print(f"v{to} against v{held}: {compared(tracker, name, to, held)}", flush=True)
    if not move_champion(tracker, name, to, expected=held, how=how, reason=reason):
        raise UserError(
            f"{name}: somebody else moved the champion just now, it is v{champion(tracker, name)}; "
            "look at `labelstack promote` and decide again"
        )
    before = "there was none" if held is None else f"was v{held}"
    done("promote", f"champion of {name} is v{to} ({before})", f"models:/{name}@champion")


def compared(tracker: Tracker, name: str, version: int, other: int) -> str:
    """The paired comparison of two versions in words, or why there is none."""
    tags = read_version(tracker, name, version).tags
    if (metric := _metric(tags)) is None:
        return f"not comparable: its metric {tags[METRIC_TAG]} is not installed here"
    found = compare_versions(tracker, name, version, other, metric)
    return describe(found.difference, metric) if found.difference else f"not comparable: {found.obstacle}"


def champion_before(tracker: Tracker, name: str) -> int:
    """The version that was champion before the present one and still exists; raise ``UserError`` when there is none."""
    there = {int(v.version) for v in _versions(tracker, name)}
    if not there:
        raise UserError(f"{name}: no versions in {tracker.public_uri}; `labelstack stage register` makes the first")
    found = previous(history(tracker, name), champion(tracker, name), there)
    if found is None:
        raise UserError(f"{name}: no version was champion before the present one, so there is nothing to go back to")
    return found


def show(tracker: Tracker) -> None:
    """Print every version with its aliases, score and data, the decisions on them, and the champion's history."""
    name = tracker.registered_model
    versions = _versions(tracker, name)
    console = Console(width=None if sys.stdout.isatty() else 140)
    if not versions:
        console.print(f"{name}: no versions in {tracker.public_uri}", markup=False, highlight=False, soft_wrap=True)
        return
    with store.explained(tracker.uri, f"read the registered model {name!r}"):
        aliases = tracker.client.get_registered_model(name).aliases
    console.print(versions_table(name, versions, {alias: int(number) for alias, number in aliases.items()}))
    decided = [(version, version.tags[PROMOTION_TAG]) for version in versions if PROMOTION_TAG in version.tags]
    if decided:
        console.print("At registration", style="italic")
    for version, sentence in decided:
        _line(console, f"v{version.version}", sentence)
    moves = history(tracker, name)
    if moves:
        console.print("\nChampions", style="italic")
    for move_ in moves:
        _line(console, move_.when, _told(move_))


def versions_table(name: str, versions: list[ModelVersion], aliases: dict[str, int]) -> Table:
    """A row for each version, the oldest first; texts of any origin are never markup."""
    table = Table(title=f"Versions of {name}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("version", "aliases", "score", "95 % interval", "data", "created (UTC)", "experiment"):
        table.add_column(heading, overflow="fold")
    for version in versions:
        held = ", ".join(sorted(alias for alias, number in aliases.items() if number == int(version.version)))
        created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        cells = [f"v{version.version}", held, *_score(version.tags), version.tags.get(DATA_TAG, "–"), created]
        table.add_row(*(Text(cell) for cell in [*cells, version.tags.get(EXPERIMENT, "")]))
    return table


def _score(tags: dict[str, str]) -> tuple[str, str]:
    try:
        score, low, high = (float(value) for value in tags[SCORE_TAG].split())
    except (KeyError, ValueError):
        return "–", ""
    metric = _metric(tags)
    return f"{score:.4f} {tags[METRIC_TAG] if metric is None else metric.title}", f"{low:.4f} … {high:.4f}"


def _metric(tags: Mapping[str, str]) -> Metric | None:
    """The metric that a version was chosen for; samples F1 for one from before that was noted."""
    key = tags.get(METRIC_TAG, "")
    return metric_of_key(key) if key else FMetric()


def _told(move_: Move) -> str:
    before = "" if move_.before is None else f"v{move_.before} → "
    who = f" by {move_.who}" if move_.who else ""
    return f"{before}v{move_.after}{who} ({move_.how}): {move_.reason}"


def _line(console: Console, head: str, text: str) -> None:
    console.print(f"{head}  {text}", markup=False, highlight=False, soft_wrap=True)


def _versions(tracker: Tracker, name: str) -> list[ModelVersion]:
    with store.explained(tracker.uri, f"read the registered model {name!r}"):
        return all_versions(tracker, name)
