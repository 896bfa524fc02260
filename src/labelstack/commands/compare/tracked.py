"""Sides of a comparison that the tracking store holds: registry versions and MLflow runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelstack.commands.compare.names import Names
from labelstack.commands.compare.parts import (
    Origin,
    data_line,
    flat_params,
    git_lines,
    label_names,
    main_row,
    member_lines,
    metric_of_row,
    registered_line,
    version_line,
)
from labelstack.params.blend import BLEND
from labelstack.registry.fetched import fetch_checked
from labelstack.report.comparison import Side
from labelstack.scoring.scored import Scored, read_scored
from labelstack.stages.members import KIND_OF_STAGE
from labelstack.stages.scored_sets import FILE, FOLDER
from labelstack.support import storage
from labelstack.support.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.lineage import EXPERIMENT
from labelstack.tracking.run import MEMBER_TAG
from labelstack.tracking.runs import CONTINUES_TAG


def load_version(sources: Names, name: str, version: Any, row: str, folder: Path) -> Side:
    """A registry version, by the record that lies with its model; by its run where it has none."""
    tracker = sources.tracker
    uri = f"models:/{version.name}/{version.version}"
    origin = [version_line(version), *git_lines(version.tags)]
    if version.run_id:
        origin.append(("MLflow run", f"{BLEND}/ensemble {version.run_id}", tracker.url(version.run_id)))

    ensemble = fetch_checked(tracker, version, folder / "version").ensemble

    def fetch(inside: str) -> Path | None:
        return ensemble / inside if (ensemble / inside).is_file() else None

    files = {key: fetch(f"record/{key}") for key in ("scored.npz", "evaluation.json", "labels.parquet")}
    params_file = fetch("files/params.yaml")
    flat, notes = flat_params(params_file.read_text(encoding="utf-8")) if params_file else ({}, [])
    labels = label_names(files["labels.parquet"])
    if files["evaluation.json"] is None:
        note = "registered without its scores and label sets: those of its MLflow run are taken"
        if not version.run_id:
            raise UserError(f"{name}: {uri} holds no scores, and no MLflow run is known to it")
        side = load_run(sources, name, sources.run(version.run_id), row, folder)
        kept = [line for line in side.origin if line[0] in ("data", "member runs")]
        return Side(
            name, side.row, side.rows, flat or side.params, bool(flat), side.metric,
            [*origin, *kept], side.scored, labels, [note, *notes, *side.notes],
        )  # fmt: skip
    evaluation = storage.read_json(files["evaluation.json"])
    rows = evaluation.get("scores") if isinstance(evaluation, dict) else None
    if not isinstance(rows, dict) or not rows or not all(isinstance(one, dict) for one in rows.values()):
        raise UserError(f"{name}: {uri}: record/evaluation.json: expected scores for each member")
    chosen = main_row(name, rows, row)
    scored = read_scored(files["scored.npz"]) if files["scored.npz"] else None
    origin += data_line(scored, evaluation)
    return Side(name, chosen, rows, flat, bool(flat), metric_of_row(rows, chosen), origin, scored, labels, notes)


def load_run(sources: Names, name: str, run: Any, row: str, folder: Path) -> Side:
    """An MLflow run: one model, or a blend with the runs of its members."""
    tracker = sources.tracker
    tags = dict(run.data.tags)
    runs, notes = {_row_name(tags, run): run}, []
    members = {tag.removeprefix(MEMBER_TAG): run_id for tag, run_id in tags.items() if tag.startswith(MEMBER_TAG)}
    for member, run_id in members.items():
        try:
            runs[member] = sources.run_within(tags.get(EXPERIMENT), run_id)
        except UserError:
            notes.append(f"the run of its member {member} ({run_id[:8]}) is not in {tracker.public_uri}")
    members = {member: runs[member].info.run_id for member in members if member in runs}
    kinds = {key: one.data.tags.get("labelstack.stage", "") for key, one in runs.items()}
    rows: dict[str, dict[str, Any]] = {
        key: {"kind": KIND_OF_STAGE.get(kinds[key], kinds[key]), **_metrics(sources, one)} for key, one in runs.items()
    }
    chosen = main_row(name, rows, row)
    scored = _logged_sets(sources, runs[chosen], folder)
    if scored is None:
        notes.append("its MLflow run holds no evaluation/scored.npz, so differences have no interval")
    origin: Origin = [("MLflow run", f"{run.info.run_name} {run.info.run_id}", tracker.url(run.info.run_id))]
    if registered := tags.get("labelstack.registry_version"):
        origin.append(registered_line(sources, *registered.rsplit("/", 1)))
    origin += git_lines(tags) + data_line(scored) + member_lines(members)
    return Side(name, chosen, rows, _run_params(runs), False, metric_of_row(rows, chosen), origin, scored, notes=notes)


def _row_name(tags: Mapping[str, str], run: Any) -> str:
    stage, name = tags.get("labelstack.stage", ""), tags.get("labelstack.name", run.info.run_name or "run")
    return BLEND if KIND_OF_STAGE.get(stage) == "blend" else name


def _metrics(sources: Names, run: Any) -> dict[str, float]:
    """A run's last metrics; where an experiment went on with an older run, that one's too."""
    before = run.data.tags.get(CONTINUES_TAG)
    return (_metrics(sources, sources.run(before)) if before else {}) | run.data.metrics


def _logged_sets(sources: Names, run: Any, folder: Path) -> Scored | None:
    """The label sets that a run, or the one that it goes on with, logged; None for one from before they were."""
    client, run_id = sources.tracker.client, run.info.run_id
    with store.explained(sources.tracker.uri, f"read the artifacts of {run_id}"):
        if any(item.path == f"{FOLDER}/{FILE}" for item in client.list_artifacts(run_id, FOLDER)):
            place = folder / run_id
            place.mkdir(parents=True)
            return read_scored(client.download_artifacts(run_id, f"{FOLDER}/{FILE}", str(place)))
    before = run.data.tags.get(CONTINUES_TAG)
    return _logged_sets(sources, sources.run(before), folder) if before else None


def _run_params(runs: Mapping[str, Any]) -> dict[str, str]:
    """Params of one run as params.yaml would call them; of a blend, with those of its members where they agree."""
    merged: dict[str, str] = {}
    clashing: set[str] = set()
    for name, run in runs.items():
        params = dict(run.data.params)
        if params.get("model.augment") == "false":
            params = {key: value for key, value in params.items() if not key.startswith("augment.")}
        of_sections = {"model.": f"models.{name}.", "second.": f"second_round.{name}.", "stacker.": f"stackers.{name}."}
        for key, value in params.items():
            if key.startswith("network."):  # of a second-round model, with what it has from its first network
                continue
            for short, long in of_sections.items():
                key = long + key.removeprefix(short) if key.startswith(short) else key
            if merged.setdefault(key, value) != value:
                clashing.add(key)
    return {key: value for key, value in merged.items() if key not in clashing}
