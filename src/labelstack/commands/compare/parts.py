"""What the sides of a comparison share: params as flat texts, the row that is compared, where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelstack.commands.compare.names import EXPERIMENT_TAG, Names
from labelstack.params import Params, flatten
from labelstack.params.blend import BLEND
from labelstack.registry.versions import DIGEST_TAG, resolve
from labelstack.scoring.metric import FMetric, Metric, chosen_for
from labelstack.scoring.scored import Scored
from labelstack.support.errors import UserError
from labelstack.support.yaml_file import parse_yaml
from labelstack.tracking.texts import clean_params

Origin = list[tuple[str, str, str | None]]


def flat_params(text: str) -> tuple[dict[str, str], list[str]]:
    """A params.yaml as flat texts, with defaults filled in and the names that follow from it, and notes about it."""
    try:
        content = parse_yaml(text, "its params.yaml")
    except UserError as error:
        return {}, [f"{error}: params are not compared"]
    try:
        params = Params.model_validate(content)
        # what runs log besides, so that both can be compared
        derived = {"members": params.blend_members(), "cube": params.cube_columns}
        return clean_params(flatten(params) | flatten(derived)), []
    except ValueError:  # written for another version of labelstack
        note = "its params.yaml does not fit this version of labelstack: params are compared as written"
        return clean_params(flatten(content if isinstance(content, dict) else {})), [note]


def metric_of_row(rows: Mapping[str, Mapping[str, Any]], row: str) -> Metric:
    """The metric that a row's rules were chosen for; samples F1 where its scores do not say."""
    return chosen_for(rows[row]) or FMetric()


def main_row(name: str, rows: Mapping[str, Any], wanted: str) -> str:
    """The row that stands for a side: the wanted one, or the only one of a single model's run."""
    if wanted in rows:
        return wanted
    if wanted == BLEND and len(rows) == 1:
        return next(iter(rows))
    raise UserError(f"{name}: no row {wanted} (there are: {', '.join(rows)})")


def label_names(file: Path | None) -> dict[int, str]:
    """Names by label id out of a table of labels; none without a file."""
    if file is None:
        return {}
    import pandas as pd

    table = pd.read_parquet(file)
    return {int(i): str(name) for i, name in zip(table["label_id"], table["name"], strict=True)}


def data_line(scored: Scored | None, evaluation: Mapping[str, Any] | None = None) -> Origin:
    """How much validation data, and its digest."""
    if scored is not None:
        n, n_labels = scored.truth.shape
        return [("data", f"{n:,} images, {n_labels:,} labels, digest {scored.digest}", None)]
    if evaluation:
        return [("data", f"{evaluation['n_validation']:,} images, {evaluation['n_labels']:,} labels", None)]
    return []


def git_lines(tags: Mapping[str, str]) -> Origin:
    """Commit and experiment out of a run's or version's tags."""
    lines: Origin = []
    if commit := tags.get("git.commit"):
        changed = " and changes to it" if tags.get("git.dirty") == "true" else ""
        lines.append(("git commit", commit[:12] + changed, None))
    if commit := tags.get("git.results_commit"):
        lines.append(("results in", commit[:12], None))
    if name := tags.get(EXPERIMENT_TAG):
        lines.append(("DVC experiment", name, None))
    return lines


def version_line(version: Any) -> tuple[str, str, str | None]:
    """A registry version with its aliases."""
    aliases = "".join(f" @{alias}" for alias in sorted(version.aliases or []))
    return "registry version", f"{version.name} v{version.version}{aliases}", None


def member_lines(members: Mapping[str, str]) -> Origin:
    """The runs of a blend's members, in one line."""
    listed = ", ".join(f"{member} {run_id[:8]}" for member, run_id in members.items())
    return [("member runs", listed, None)] if listed else []


def registered_line(sources: Names, name: str, version: str, digest: str | None = None) -> tuple[str, str, str | None]:
    """The version that something was registered as, with its aliases where this registry has that same ensemble."""
    try:
        found = resolve(sources.tracker, f"{name}/{version}")
        if digest is None or found.tags.get(DIGEST_TAG) == digest:
            return version_line(found)
    except UserError:  # another registry, or none that answers: what was recorded is still worth saying
        pass
    return "registry version", f"{name} v{version}, in another registry", None
