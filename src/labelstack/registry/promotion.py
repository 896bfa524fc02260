"""Promotion: a new version becomes champion only when it is better on the same data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labelstack.params.blend import BLEND
from labelstack.registry.champions import How, champion, history, move_champion
from labelstack.registry.fetched import fetch_checked
from labelstack.registry.versions import DATA_TAG, read_version
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import Metric
from labelstack.scoring.scored import Scored, read_scored
from labelstack.support.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.runs import Tracker
from labelstack.tracking.texts import clean_tags

PROMOTION_TAG = "labelstack.promotion"
COMPARED_TAG = "labelstack.compared_with"
FIRST = "champion: there was none before"
FLATTERED = (
    "not compared: its networks were stopped by the rows that it is scored on (training.monitor: fold), so its scores "
    "are flattered; `labelstack promote` makes it champion by hand"
)
STUDENT = (
    "not compared: what taught it has seen the rows that it is scored on, so its scores are flattered; "
    "`labelstack promote` makes it champion by hand"
)
_ATTEMPTS = 20  # each lost one means that somebody else's better version became champion meanwhile


@dataclass(frozen=True)
class Compared:
    """A version against another one.

    Attributes
    ----------
    difference : Interval or None
        The version's score minus the other's with its 95 % interval; None when they can't be compared.
    obstacle : str
        Why they can't; empty otherwise.
    """

    other: int
    difference: bootstrap.Interval | None = None
    obstacle: str = ""

    @property
    def better(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.difference is not None and self.difference.low > 0


@dataclass(frozen=True)
class Promotion:
    """What was decided on a new version: is it champion, in a sentence why, and what it was compared with."""

    champion: bool
    sentence: str
    compared: Compared | None = None


def compare_versions(tracker: Tracker, name: str, version: int, other: int, metric: Metric) -> Compared:
    """Compare the blends of two versions by paired bootstrap over the images that both were scored on.

    What the metric wants is the cross-fitted in ``record/scored.npz`` of either version. Other data, a version whose
    record lacks it, or one whose files are not the registered ones, is an obstacle and no error.

    Raises
    ------
    UserError
        When the registry can't be reached or lacks one of the versions.
    """
    digests = {number: read_version(tracker, name, number).tags.get(DATA_TAG, "") for number in (version, other)}
    for number, digest in digests.items():
        if not digest:
            return Compared(other, obstacle=f"v{number} keeps no record of what it was scored on")
    if digests[version] != digests[other]:
        return Compared(other, obstacle=_other_data(other, digests[other], digests[version]))
    read: dict[int, Scored] = {}
    for number in (version, other):
        try:
            read[number] = _scored(tracker, name, number, metric)
        except UserError as error:
            return Compared(other, obstacle=f"the record of v{number} can't be read: {error}")
    ours = read[version]
    if ours.digest != read[other].digest:
        return Compared(other, obstacle=_other_data(other, read[other].digest, ours.digest))
    theirs = ours.aligned(read[other])
    a, b = (each.given(metric, BLEND) for each in (ours, theirs))
    assert a is not None  # _scored saw to it
    assert b is not None
    return Compared(other, bootstrap.paired(metric, ours.truth, a, b))


def promote_if_better(
    tracker: Tracker,
    name: str,
    version: int,
    metric: Metric,
    log: Callable[[Mapping[str, float]], None] = lambda metrics: None,
    *,
    flattered: bool = False,
    sentence: str = FLATTERED,
) -> Promotion:
    """Decide once whether a version becomes champion; its tags keep the decision.

    The first version becomes champion; a later one when the 95 % interval of its gain over the champion, on the same
    data, lies above 0. A decision that a kill cut short is taken again; one that was taken stays.

    Parameters
    ----------
    log : callable
        Gets ``promotion_difference``, ``promotion_low`` and ``promotion_high`` where there was a comparison.
    flattered : whether its networks were chosen on the rows that it was scored on: it becomes champion by hand only
    sentence : that says so

    Raises
    ------
    UserError
        When the registry can't be reached.
    """
    if taken := read_version(tracker, name, version).tags.get(PROMOTION_TAG, ""):
        return Promotion(champion(tracker, name) == version, taken)
    for _ in range(_ATTEMPTS):
        held = champion(tracker, name)
        found = Promotion(held == version, sentence) if flattered else _decide(tracker, name, version, held, metric)
        if found.compared and found.compared.difference:
            difference = found.compared.difference
            log(
                {
                    f"promotion_{key}": value
                    for key, value in zip(("difference", "low", "high"), difference, strict=True)
                }
            )
        if not found.champion or held == version:
            break
        how: How = "first" if held is None else "compared"
        if move_champion(tracker, name, version, expected=held, how=how, reason=found.sentence):
            break
    else:
        raise UserError(f"{name} v{version}: the champion changed {_ATTEMPTS} times while it was compared; try again")
    noted = {COMPARED_TAG: f"{name}/{found.compared.other}"} if found.compared else {}
    with store.explained(tracker.uri, f"note the decision on {name}/{version}"):
        for key, value in clean_tags(noted | {PROMOTION_TAG: found.sentence}).items():
            tracker.client.set_model_version_tag(name, str(version), key, value)
    return found


def describe(difference: bootstrap.Interval, metric: Metric) -> str:
    """A difference in words, such as ``+0.0123 samples F1, 95 % interval +0.0010 … +0.0236``."""
    gain, low, high = difference
    return f"{gain:+.4f} {metric.title}, 95 % interval {low:+.4f} … {high:+.4f}"


def _decide(tracker: Tracker, name: str, version: int, held: int | None, metric: Metric) -> Promotion:
    """The decision against the champion ``held``."""
    if held == version:
        return _already(tracker, name, version, metric)
    if held is None:
        return Promotion(True, FIRST)
    compared = compare_versions(tracker, name, version, held, metric)
    if not compared.better:
        return Promotion(False, f"v{held} stays champion: {_why_not(compared, metric)}", compared)
    return Promotion(True, _better(compared, metric), compared)


def _already(tracker: Tracker, name: str, version: int, metric: Metric) -> Promotion:
    """A champion whose decision was not noted: the first one, or a kill came between, or somebody moved it."""
    last = next((move for move in reversed(history(tracker, name)) if move.after == version), None)
    if last is None or last.how == "first":
        return Promotion(True, FIRST)
    if last.how != "compared" or last.before is None:
        return Promotion(True, f"champion: {last.reason}")
    compared = compare_versions(tracker, name, version, last.before, metric)
    return Promotion(True, last.reason, compared)


def _better(compared: Compared, metric: Metric) -> str:
    assert compared.difference is not None
    return f"champion: better than v{compared.other} on the same data ({describe(compared.difference, metric)})"


def _why_not(compared: Compared, metric: Metric) -> str:
    if compared.difference is None:
        return compared.obstacle
    found = "this one is worse" if compared.difference.high < 0 else "this one is not better beyond chance"
    return f"{found} ({describe(compared.difference, metric)})"


def _other_data(other: int, theirs: str, ours: str) -> str:
    return f"v{other} was scored on other data ({theirs}, this one on {ours})"


def _scored(tracker: Tracker, name: str, number: int, metric: Metric) -> Scored:
    with tempfile.TemporaryDirectory(prefix="labelstack-") as folder:
        fetched = fetch_checked(tracker, read_version(tracker, name, number), Path(folder) / "version")
        scored = read_scored(fetched.ensemble / "record" / "scored.npz")
    if scored.given(metric, BLEND) is None:
        wanted = metric.wants.replace("_", " ")
        raise UserError(
            f"models:/{name}/{number}: record/scored.npz holds no {wanted} of the blend, by which {metric.title} is "
            "scored"
        )
    return scored
