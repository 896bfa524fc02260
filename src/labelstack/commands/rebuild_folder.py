"""A registered ensemble laid out like the workspace that made it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstack.ensemble import record
from labelstack.ensemble.folder import Spec, network_file
from labelstack.ensemble.recompute import Members, ensemble_predictions, shard_predictions
from labelstack.ensemble.recorded_form import recorded_form
from labelstack.ensemble.region_form import REGIONS, SEGMENTER_FILES, segmenter_folder
from labelstack.formats.instance_labels import InstanceLabels
from labelstack.formats.mask_submission import write_masks
from labelstack.images.shards.shard_files import ok_ids
from labelstack.params import load_params
from labelstack.predictions import Predictions, answered, read_predictions
from labelstack.stages import paths
from labelstack.stages.label_sets import load_decision
from labelstack.stages.members import THE_BLEND, Network, base_model, second_round_model, stacker
from labelstack.stages.submit import write_labels
from labelstack.stages.work.masks_of_photos import Attributes, Writing, photos_to_write
from labelstack.support import storage
from labelstack.support.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from labelstack.stacking.deciding.decisions import Decision

SUBMISSION = Path("submission")
_NOTE = "REBUILD.md"


def restore(ensemble: Path, code: Path, spec: Spec, workspace: Path) -> None:
    """Copy every file of an ensemble's folder to where its stage wrote it, and labelstack's source to src/."""
    for source, target in _places(ensemble, spec):
        if ".." in target.parts or target.is_absolute():
            raise UserError(f"ensemble.json: the name in {target} leads out of the folder; nothing is restored")
        if source.is_dir():
            shutil.copytree(source, workspace / target)
        elif source.is_file():
            (workspace / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, workspace / target)
    if code.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")  # nobody registered these: see source_digest
        shutil.copytree(code, workspace / "src" / "labelstack", ignore=ignored)


def _places(ensemble: Path, spec: Spec) -> Iterator[tuple[Path, Path]]:
    for file in sorted((ensemble / "files").glob("*")):
        yield file, Path(file.name)
    for name, networks in spec.views.items():
        second = name in spec.second_round
        for fold in networks:
            own = Network(name, fold, "second round" if second else "base model")
            yield ensemble / network_file(name, fold), own.weights
        member = second_round_model(name) if second else base_model(name)
        yield _recorded(ensemble, name, member.test)
        yield record.boxes_file(ensemble, name), record.boxes_file(Path(), name)
    for name in spec.stackers:
        yield ensemble / "stackers" / name, stacker(name).learnt
        yield _recorded(ensemble, name, stacker(name).test)
    if spec.regions is not None:
        for one in spec.regions.networks:
            for part in SEGMENTER_FILES:
                yield ensemble / segmenter_folder(*one) / part, paths.segmenter(*one) / part
        yield ensemble / REGIONS, Path(record.FOLDER) / REGIONS
        yield ensemble / record.FOLDER / record.REGIONS, paths.regions("test")
        for name in (record.PHOTOS_PROBE, record.PHOTOS, record.MASKS):
            yield ensemble / record.FOLDER / name, Path(record.FOLDER) / name
    yield ensemble / "blend.json", THE_BLEND.learnt
    yield ensemble / "thresholds.json", THE_BLEND.rule
    yield _recorded(ensemble, THE_BLEND.name, THE_BLEND.test)
    yield ensemble / record.FOLDER / "labels.parquet", paths.LABELS
    yield ensemble / record.FOLDER / "evaluation.json", paths.EVALUATION
    for name in ("probe.parquet", "test.parquet", "scored.npz", "submission.json", "machine.json"):
        yield ensemble / record.FOLDER / name, Path(record.FOLDER) / name


def _recorded(ensemble: Path, name: str, place: Path) -> tuple[Path, Path]:
    """A member's recorded predictions, and where its stage wrote them; .npz in versions of before."""
    file = record.predictions_file(ensemble, name)
    return file, place.with_suffix(file.suffix)


def submit(ensemble: Path, spec: Spec, workspace: Path, images: Path | None) -> tuple[Path, list[str]]:
    """Write the submission again; its path in the restored workspace, and in what it is not the recorded one.

    Of a version with segmenters that is also the file of masks, whose path is given then.

    Parameters
    ----------
    images : Path, optional
        Folder of the test shards, for predicting every image anew; otherwise the recorded predictions of the base
        models are taken.
    """
    import pandas as pd

    params, written = load_params(workspace / "params.yaml"), record.read_submission(ensemble)
    members = Members.of(ensemble, spec)
    kept = {name: read_predictions(record.predictions_file(ensemble, name)) for name in spec.needed_models}
    base, problems = kept, []
    if images is not None:
        boxes = {name: record.read_boxes(ensemble, name) for name in spec.needed_models}
        base = {
            name: shard_predictions(members, spec, images, name, boxes[name], shown=_shown(kept[name], images))
            for name in spec.needed_models
        }
        first = spec.needed_models[0]
        absent = np.setdiff1d(kept[first].image_id, base[first].image_id)
        added = np.setdiff1d(base[first].image_id, kept[first].image_id)
        if len(absent) or len(added):
            problems.append(
                f"{images}: not the images of that day, {len(absent)} are absent and {len(added)} are new "
                f"({_called(ensemble, written, [*absent.tolist(), *added.tolist()][:5])})"
            )
    labels = pd.read_parquet(workspace / paths.LABELS)
    decision = load_decision(workspace / THE_BLEND.rule)
    blended = ensemble_predictions(members, spec, base)
    path = workspace / SUBMISSION / params.submission.filename
    form = recorded_form(ensemble, labels["label_id"].tolist(), labels["name"].tolist())
    write_labels(path, params, blended, decision, form, labels)
    files = [(path, written["sha256"])]
    if spec.regions is not None:
        files.append(_submit_masks(ensemble, spec, workspace, blended, decision))
    problems += [
        f"{file.name}: SHA-256 {storage.sha256(file)}, recorded is {sha256}"
        for file, sha256 in files
        if storage.sha256(file) != sha256
    ]
    return files[-1][0], problems


def _submit_masks(
    ensemble: Path, spec: Spec, workspace: Path, blended: Predictions, decision: Decision
) -> tuple[Path, str]:
    """Write the file of masks again, of the recorded regions; its path and the SHA-256 that is recorded."""
    form, kept = spec.regions, record.read_photos(ensemble)
    assert form is not None
    said = Attributes(np.array(spec.label_id, np.int64), blended, decision.decide(blended.probability))
    path, side = workspace / SUBMISSION / Path(kept.submission["filename"]).name, int(kept.submission["side"])
    kinds = InstanceLabels("the version", form.names, dict(zip(spec.label_id, spec.labels, strict=True)))
    writing = Writing(kept.name, kept.image_id, kept.regions, said, form.rule, side, kinds)
    write_masks(path, kept.name, photos_to_write(writing), side)
    return path, str(kept.submission["sha256"])


def _shown(kept: Predictions, images: Path) -> NDArray[np.bool_] | None:
    """Which test images a model was shown, bool [n] in the shards' order; None: all, or others are there now."""
    shown = answered(kept.probability)
    return None if shown.all() or not np.array_equal(kept.image_id, ok_ids(images)) else shown


def _called(ensemble: Path, written: Mapping[str, object], image_id: Sequence[int]) -> str:
    """Some images as a message names them: by what people call them where the version keeps that, else by ids."""
    names: dict[int, str] = {}
    if "separator" in written:
        test = record.read_test_id(ensemble).tolist()
        names = dict(zip(test, map(repr, record.read_test_name(ensemble)), strict=True))
    shown = ", ".join(names.get(number, f"id {number}") for number in image_id)
    return shown if names else f"ids {', '.join(map(str, image_id))}"


def note(version: ModelVersion, told: Sequence[str], workspace: Path) -> None:
    """Write REBUILD.md: what the folder is, how it was checked, and how to go on."""
    tags: Mapping[str, str] = version.tags
    commit, results = tags.get("git.commit"), tags.get("git.results_commit")
    state = " with changes that were not committed" if tags.get("git.dirty") == "true" else ""
    came = f"made at git commit `{commit}`{state}" if commit else "made outside of git"
    go_on = [
        "git clone <your repository> && cd <it>",
        f"git checkout {results or commit or '<commit>'}",
        "dvc pull",
        f"dvc repro   # {'nothing to do' if results else 'runs what the dvc.lock of that commit does not have'}",
    ]
    lines = [
        f"# {version.name} version {version.version}, rebuilt",
        "",
        f"Restored by `labelstack rebuild` from the MLflow registry; {came}, run `{version.run_id}`.",
        "",
        *(f"- {sentence}" for sentence in told),
        "",
        "`params.yaml`, `dvc.yaml`, `dvc.lock`, `requirements.lock`, the trained models, the test predictions of that "
        "day and, in `src/`, the source that made them. `record/` holds the images and figures for checking. The data "
        "set and its images are not in the registry.",
        "",
        "To go on with data and pipeline, take the repository at the commit "
        + (
            "that holds the results:"
            if results
            else "of the run. Which later commit holds its results was not recorded (`labelstack sync` does that):"
        ),
        "",
        *(f"    {line}" for line in go_on),
        "",
        "To label images with this version, where the registry can be reached:",
        "",
        f"    labelstack predict --model models:/{version.name}/{version.version} photo.jpg",
        "",
    ]
    (workspace / _NOTE).write_text("\n".join(lines), encoding="utf-8")


def free_folder(to: Path) -> Path:
    """The absolute path of a folder that can be made; raise ``UserError`` when something is there already."""
    try:
        target = to.resolve()
        if target == Path.cwd():
            raise UserError(f"--to {to}: is the current folder; name a new one")
        if target.is_dir():
            inside = sorted(file.name for file in target.iterdir())
            if inside:
                shown = ", ".join(inside[:3]) + (", …" if len(inside) > 3 else "")
                raise UserError(f"--to {to}: the folder is not empty ({shown}); name a new one, nothing is overwritten")
        elif target.exists():
            raise UserError(f"--to {to}: is a file; name a new folder")
    except OSError as error:
        raise UserError(f"--to {to}: can't be made ({error.strerror})") from None
    except RuntimeError:  # of pathlib
        raise UserError(f"--to {to}: a link that leads to itself; name a new folder") from None
    storage.writable_folder(target.parent, f"--to {to}")
    return target
