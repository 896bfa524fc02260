"""Sides of a comparison that are files: the stage outputs here, and those of a git revision or DVC experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelstack.commands.compare.names import EXPERIMENT_TAG, Names
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
)
from labelstack.params import flatten, load_params
from labelstack.predictions import read_predictions
from labelstack.report.comparison import Side
from labelstack.scoring.metric import Metric, metric_of
from labelstack.scoring.scored import Scored
from labelstack.stages import paths
from labelstack.stages.common import ROOT
from labelstack.stages.cross_fitted import cross_fitted_file, read_cross_fitted
from labelstack.stages.fold_files import stacking_rows
from labelstack.stages.members import THE_BLEND, Member
from labelstack.stages.rows import Split, label_table, rows_in
from labelstack.stages.scored_sets import scored
from labelstack.stages.settings import settings
from labelstack.support import storage
from labelstack.support.errors import UserError
from labelstack.support.yaml_file import read_yaml
from labelstack.tracking.lineage import git_tags, read_lock
from labelstack.tracking.run import MEMBER_TAG
from labelstack.tracking.run_file import read_run_json

_ONE = flatten({"base_models": ["all"]})["base_models"]
RUN, REGISTRATION = THE_BLEND.run_file, paths.ENSEMBLE / "registration.json"


def load_workspace(sources: Names, name: str, row: str) -> Side:
    """The stage outputs here; raise ``UserError`` when `evaluate` has not run."""
    params = load_params()
    if not paths.EVALUATION.exists():
        raise UserError(f"{name}: {paths.EVALUATION} not found; run `dvc repro` first")
    evaluation = storage.read_json(paths.EVALUATION)
    rows = evaluation["scores"]
    chosen, metric = main_row(name, rows, row), metric_of(params.metric)
    flat, notes = flat_params(Path("params.yaml").read_text(encoding="utf-8"))
    sets, names = None, {}
    try:
        validation, file = stacking_rows(params), Member(chosen, rows[chosen]["kind"]).cross_fitted
        labels = read_cross_fitted(file, validation.row_id, metric.decides)
        more = {} if metric.wants == "label_sets" else {chosen: read_cross_fitted(file, validation.row_id, metric)}
        sets, names = scored(validation, label_table(), {chosen: labels}, more, metric), label_names(paths.LABELS)
    except UserError as error:
        notes.append(f"differences have no interval ({error})")
    if stale := changed_params():
        notes.append(f"params.yaml was changed after the stages ran ({', '.join(stale)}): run `dvc repro`")
    lock = read_lock(ROOT)
    origin = [("files", str(ROOT.resolve()), None), *git_lines(git_tags(ROOT, [*lock["outs"], "dvc.lock"]))]
    origin += made_by(sources, *(storage.read_json(file) if file.exists() else None for file in (RUN, REGISTRATION)))
    origin += data_line(sets, evaluation)
    return Side(name, chosen, rows, flat, True, metric, origin, sets, names, notes)


def changed_params() -> list[str]:
    """Keys of params.yaml whose values, defaults resolved, are not those that dvc.lock recorded."""
    try:
        lock = read_yaml(ROOT / "dvc.lock") or {}
        now: Any = settings(load_params(ROOT / "params.yaml"))
    except (FileNotFoundError, UserError):
        return []
    recorded: dict[str, Any] = {}
    for stage in (lock.get("stages") or {}).values():
        recorded |= (stage.get("params") or {}).get(paths.SETTINGS.as_posix()) or {}
    recorded = {key: value for key, value in recorded.items() if key.partition(".")[0] not in ("code", "members")}
    codes = ("metric.code", "monitor.code")  # no params either

    def value(key: str) -> Any:
        found = now
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    before, after = flatten(recorded), flatten({key: value(key) for key in recorded})
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return sorted(key for key in changed if not key.endswith(codes))


def made_by(sources: Names, run: Mapping[str, Any] | None, registration: Mapping[str, Any] | None) -> Origin:
    """The MLflow runs and the registry version behind an ensemble, from its run.json and registration.json."""
    lines: Origin = []
    if run is not None:
        tags = run["tags"]
        if name := tags.get(EXPERIMENT_TAG):
            lines.append(("DVC experiment", name, None))
        url = None
        try:
            if sources.tracker.has_run(run["run_id"]):
                url = sources.tracker.url(run["run_id"])
        except UserError:  # no store that answers: the id is still worth saying
            pass
        lines.append(("MLflow run", f"{run['name']} {run['run_id']}", url))
        lines += member_lines({t.removeprefix(MEMBER_TAG): i for t, i in tags.items() if t.startswith(MEMBER_TAG)})
    if registration is not None:
        lines.append(
            registered_line(sources, registration["name"], str(registration["version"]), registration["digest"])
        )
    return lines


@dataclass
class _Revision:
    """Files of a commit, from git or from DVC's cache or remote, copied into a folder when they are asked for."""

    fs: Any
    folder: Path
    lost: list[str] = field(default_factory=list)

    def file(self, path: Path) -> Path | None:
        """A copy; None where the commit has no such file, or where DVC cannot bring it (kept in ``lost``)."""
        copy = self.folder / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            copy.write_bytes(self.fs.read_bytes(path.as_posix()))
        except Exception as error:  # a remote may fail in many ways; none of them ends the comparison
            if "No such file" not in str(error):
                self.lost.append(path.as_posix())
            return None
        return copy

    def predictions(self, path: Path) -> Path | None:
        """A copy of predictions, which commits of before have as ``.npz``."""
        return self.file(path) or self.file(path.with_suffix(".npz"))


def load_revision(sources: Names, name: str, sha: str, row: str, folder: Path) -> Side:
    """A commit or DVC experiment; raise ``UserError`` when its results were not committed."""
    from dvc.api import DVCFileSystem

    at = _Revision(DVCFileSystem(str(ROOT.resolve()), rev=sha), folder / sha)
    params, metrics = at.file(Path("params.yaml")), at.file(paths.EVALUATION)
    if params is None or metrics is None:
        lacking = " and ".join(str(p) for p, f in ((Path("params.yaml"), params), (paths.EVALUATION, metrics)) if not f)
        raise UserError(
            f"{name}: commit {sha[:12]} has no {lacking}: results are compared where they were committed "
            "(dvc repro, git add dvc.lock metrics, git commit) or are a DVC experiment"
        )
    evaluation = storage.read_json(metrics)
    rows = evaluation["scores"]
    chosen = main_row(name, rows, row)
    flat, notes = flat_params(params.read_text(encoding="utf-8"))
    metric = metric_of_row(rows, chosen)
    one_network = flat.get("base_models", _ONE) == _ONE  # commits of before know nothing else
    sets = _sets(at, Member(chosen, rows[chosen]["kind"]), metric, "validation" if one_network else "train")
    run_file, registration = at.file(RUN), at.file(REGISTRATION)
    labels = label_names(at.file(paths.LABELS))
    if at.lost:
        lost = list(dict.fromkeys(at.lost))
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        notes.append(
            f"{lost[0]}{more} of {sha[:12]}: neither in DVC's cache here nor could be had from "
            "a remote: `dvc pull` brings those of the present commit, `dvc fetch --all-commits` those of every commit, "
            "`dvc exp pull` an experiment's"
        )
    elif sets is None:
        notes.append("its commit holds no cross-fitted label sets, so differences have no interval")
    experiments = sources.experiment_names(sha)
    origin: Origin = [("git commit", sha[:12], None)]
    origin += [("DVC experiment", experiment, None) for experiment in experiments]
    run = read_run_json(run_file) if run_file else None
    made = made_by(sources, run, storage.read_json(registration) if registration else None)
    origin += [line for line in made if line[:2] not in [known[:2] for known in origin]]
    origin += data_line(sets, evaluation)
    return Side(name, chosen, rows, flat, True, metric, origin, sets, labels, notes)


def _sets(at: _Revision, member: Member, metric: Metric, split: Split) -> Scored | None:
    """What is cross-fitted of a member with the truth, rows of a split; None where a file is not to be had."""
    from labelstack.formats.manifest import read_manifest

    file, of_labels = at.predictions(member.cross_fitted), at.file(paths.LABELS)
    manifest = at.file(paths.manifest(split))
    if file is None or of_labels is None or manifest is None:
        return None
    import pandas as pd

    chosen, labels = read_predictions(file), pd.read_parquet(of_labels)
    rows = rows_in(split, read_manifest(manifest), labels, chosen.image_id)
    more = {}
    if (wanted := cross_fitted_file(member.cross_fitted, metric)) != member.cross_fitted:
        if (probability := at.predictions(wanted)) is None:
            return None
        more = {member.name: read_predictions(probability).rows_of(rows.row_id)}
    return scored(rows, labels, {member.name: chosen.rows_of(rows.row_id) > 0}, more, metric)
