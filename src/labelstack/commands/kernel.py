"""`labelstack kernel`: a registered ensemble as one Python file and a folder of weights, for where no network is."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from labelstack.commands.kernel_steps import fitted_steps, made_here
from labelstack.ensemble import record
from labelstack.ensemble.folder import Spec, network_file, read_spec
from labelstack.kernel.contents import ORDER, PACKAGES, Contents, WeightFile
from labelstack.kernel.registered_rows import write_order
from labelstack.kernel.script import packed_source, script
from labelstack.kernel.smaller import STEPS, write_smaller
from labelstack.params import Params, load_params
from labelstack.params.backbone_names import OWN
from labelstack.params.blend import BLEND
from labelstack.params.dataset import FORMATS
from labelstack.params.stackers import STACKERS
from labelstack.scoring.metric import metric_of
from labelstack.stages.common import ROOT, done, tracking_here
from labelstack.stages.label_sets import prior_labels
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.storage import read_json, replacing, replacing_dir, sha256, writable, writable_folder

_SPEC = ("ensemble.json", "labels.json", "blend.json", "thresholds.json")
# What stackers import besides, by kind.
_STACKING = {"sklearn": "scikit-learn"}
_OF_KIND = {"xgboost": {"xgboost": "xgboost"}}


def run(model: str | None, out: Path, weights: Path | None = None, *, smaller: bool = False) -> None:
    """Write a kernel's script and, into a folder of its own, the files that it looks for.

    Parameters
    ----------
    model : a version as ``registry.resolve`` takes it, or the folder of an ensemble's files or of its MLflow model;
        None: ``@champion``
    out : the script, a ``.py`` file
    weights : default: beside the script, by its name
    smaller : also fit what a limit of time falls back on, in the workspace of the ensemble, see ``kernel_steps``

    Raises
    ------
    UserError
        When there is no such version, a file of it is not the registered one, it has no record, it finds regions in
        photos, or it needs code of plug-ins.
    """
    if out.suffix != ".py":
        raise UserError(f"--out {out}: expected a file that ends in .py")
    writable(out, "--out")
    weights = weights or out.with_name(f"{out.stem}_weights")
    _free(weights)
    with _ensemble(model) as (title, ensemble):
        spec, params = _checked(ensemble, title)
        if smaller and not made_here(ensemble):
            raise UserError(
                f"--smaller: {title} is not of the stages that have run here: smaller blends are fitted to out-of-fold "
                "predictions and images, so type it in the workspace that registered the version"
            )
        packed = packed_source()
        with replacing_dir(weights) as place:
            for name in needed_files(ensemble, spec):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ensemble / name, place / name)
            write_order(place / ORDER, ensemble, params.images.shard_rows)
            if smaller:
                primary = metric_of(params.metric)
                whole = read_json(ensemble / record.FOLDER / "evaluation.json")["scores"][BLEND][primary.cross_fitted]
                write_smaller(place, primary.title, whole, fitted_steps(load_params(), ensemble, spec))
            contents = _contents(title, ensemble, spec, params, place, hashlib.sha256(packed).hexdigest())
        with replacing(out) as temporary:
            temporary.write_text(script(out.name, contents, packed), encoding="ascii", newline="\n")
    size = sum(file.size for file in contents.files.values())
    done("kernel", f"{title}, {out.stat().st_size / 1000:,.0f} kB", out)
    done("weights", f"{len(contents.files)} files, {size / 1e6:,.1f} MB, to be uploaded as a data set", weights)


def needed_files(ensemble: Path, spec: Spec) -> list[str]:
    """Names of the files that a kernel needs in an ensemble's folder, in order; members without a say need none."""
    networks = [network_file(name, fold) for name in spec.needed_models for fold in spec.views[name]]
    stackers = [
        file.relative_to(ensemble).as_posix()
        for name in spec.needed_stackers
        for file in sorted((ensemble / "stackers" / name).rglob("*"))
        if file.is_file()
    ]
    boxes = [record.boxes_file(Path(), name).as_posix() for name in spec.needed_models]
    test = f"{record.FOLDER}/test.parquet"
    return [*_SPEC, *networks, *stackers, test, *(name for name in boxes if (ensemble / name).is_file())]


@contextmanager
def _ensemble(model: str | None) -> Iterator[tuple[str, Path]]:
    """What people call the ensemble, and the folder of its files, which are the registered ones."""
    if model is not None and Path(model).is_dir():
        folder = Path(model)
        ensemble = next((place for place in (folder, folder / "artifacts/ensemble") if _is_ensemble(place)), None)
        if ensemble is None:
            raise UserError(f"{model}: no ensemble's folder (no ensemble.json); name a version, or the files of one")
        changed = record.changes(ensemble)
        if problems := [f"{name} was changed" for name in changed.changed] + [
            f"{name} is missing" for name in changed.missing
        ]:
            raise InputProblems(f"{model}: not the files that {record.CHECKSUMS} names", problems)
        yield f"ensemble {record.files_digest(ensemble)[:12]}", ensemble
        return
    from labelstack.registry.fetched import fetch_checked
    from labelstack.registry.versions import resolve
    from labelstack.tracking.runs import connect

    tracker = connect(tracking_here(), ROOT, create=False)
    version = resolve(tracker, "@champion" if model is None else model)
    with tempfile.TemporaryDirectory(prefix="labelstack-") as temporary:
        yield (
            f"{version.name} v{version.version}",
            fetch_checked(tracker, version, Path(temporary) / "version").ensemble,
        )


def _is_ensemble(folder: Path) -> bool:
    return (folder / "ensemble.json").is_file()


def _checked(ensemble: Path, title: str) -> tuple[Spec, Params]:
    """The spec and params of an ensemble that a kernel can be made of; raise ``UserError`` otherwise."""
    if not record.has_record(ensemble):
        raise UserError(
            f"{title} was registered without a record, so neither rows nor priors of a submission are known"
        )
    spec = read_spec(ensemble)
    if spec.regions is not None:
        raise UserError(
            f"{title} finds regions in photos, and a kernel labels whole images: it carries neither segmenters nor the "
            "submission of masks (docs/kernel.md says what is lacking). Where labelstack can be installed, `labelstack "
            "predict FOLDER --json` gives regions of photos, and `labelstack rebuild --submit` writes masks.csv again"
        )
    params = load_params(ensemble / "files" / "params.yaml")
    problems = []
    if params.dataset.format not in FORMATS.own:
        problems.append(f"dataset.format: {params.dataset.format} is a plug-in's, which writes submissions of its own")
    for name in spec.needed_models:
        backbones = {params.network(name, fold).backbone for fold in spec.views[name]}
        problems += [f"{name}: its backbone {one} is a plug-in's" for one in sorted(backbones - set(OWN))]
    for name, kinds in _kinds(ensemble, spec).items():
        problems += [f"{name}: its stacker {kind} is a plug-in's" for kind in sorted(kinds - set(STACKERS.own))]
    if problems:
        raise InputProblems(f"{title}: a kernel carries labelstack's own code alone", problems)
    return spec, params


def _kinds(ensemble: Path, spec: Spec) -> dict[str, set[str]]:
    """Of each stacker that has a say the kinds of its fold models."""
    return {
        name: {
            str(read_json(file).get("kind"))
            for file in sorted((ensemble / "stackers" / name).glob("fold-*/config.json"))
        }
        for name in spec.needed_stackers
    }


def _contents(title: str, ensemble: Path, spec: Spec, params: Params, weights: Path, source: str) -> Contents:
    import pandas as pd

    files = {
        name: WeightFile((weights / name).stat().st_size, sha256(weights / name))
        for name in [*needed_files(ensemble, spec), ORDER, *([STEPS] if (weights / STEPS).exists() else [])]
    }
    labels = pd.read_parquet(ensemble / record.FOLDER / "labels.parquet")
    written: dict[str, Any] = record.read_submission(ensemble)
    packages = PACKAGES | (_STACKING if spec.needed_stackers else {})
    for kind in sorted(set().union(*_kinds(ensemble, spec).values())):
        packages |= _OF_KIND.get(kind, {})
    return Contents(
        title=title,
        source=source,
        files=files,
        unseen=np.flatnonzero(prior_labels(params, labels)).tolist(),
        submission={key: written[key] for key in ("header", "sha256", "separator", "labels") if key in written},
        shard_rows=params.images.shard_rows,
        packages=packages,
        machine=record.read_machine(ensemble),
    )


def _free(weights: Path) -> None:
    """Refuse a folder in which something else lies than weights of before, which are replaced."""
    if weights.is_dir() and (inside := sorted(os.listdir(weights))) and not _were_weights(inside):
        raise UserError(f"--weights {weights}: other files lie in the folder ({', '.join(inside[:3])}); name a new one")
    if weights.exists() and not weights.is_dir():
        raise UserError(f"--weights {weights}: is a file; name a new folder")
    writable_folder(weights.parent, f"--weights {weights}")


def _were_weights(inside: Sequence[str]) -> bool:
    return {*_SPEC, ORDER} <= set(inside) <= {*_SPEC, ORDER, STEPS, "members", "stackers", record.FOLDER}
