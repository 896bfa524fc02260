"""What a kernel does where it runs: finds its weights, predicts the test folder, writes the submission.

Nothing beyond the standard library is imported before it is known that all of it is there.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labelstack.kernel.contents import Contents
from labelstack.support.errors import InputProblems, UserError

if TYPE_CHECKING:
    from labelstack.ensemble.folder import Spec
    from labelstack.predictions import Predictions

INPUTS = ("/kaggle/input", "../input")
_MARK = "labelstack-kernel"  # a file in the work folder: it is ours, and goes when the submission is written


def main(contents: Contents, arguments: Sequence[str]) -> int:
    """Run with what was typed; the exit code, 2 after a user's mistake, whose sentence is printed."""
    options = _options(contents, arguments)
    try:
        run(contents, options.input or [Path(place) for place in INPUTS], options.test, options.out, options)
    except UserError as error:
        print(f"kernel: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


def run(contents: Contents, inputs: Sequence[Path], test: Path, out: Path, options: argparse.Namespace) -> None:
    """Predict a test folder and write its submission.

    Parameters
    ----------
    inputs : folders in which the weights are looked for
    test : folder of the test images
    out : the submission's file
    options : ``work``, ``sample``: see ``_options``

    Raises
    ------
    UserError
        When a package, a weight or an image file is not there, or the submission cannot be written.
    """
    _refuse_lacking(contents.packages)
    from labelstack.kernel.found_files import find_files
    from labelstack.support.storage import writable

    if options.hours is not None:
        raise UserError("--hours: this kernel has no smaller blends to fall back on; run it without a limit of time")
    writable(out, "--out")
    if not test.is_dir():
        raise UserError(f"--test {test}: no such folder; name the one that holds the test images")
    absent = [str(folder) for folder in inputs if not folder.is_dir()]
    if len(absent) == len(inputs):
        raise UserError(f"--input {', '.join(absent)}: no such folder; name the one that holds the kernel's weights")
    work = _work_folder(options.work or out.with_name(f"{out.name}.work"))
    with tempfile.TemporaryDirectory(prefix="labelstack-") as place:
        for name, path in find_files(contents.files, [folder for folder in inputs if folder.is_dir()]).items():
            (Path(place) / name).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(path.resolve(), Path(place) / name)
        _predict(contents, Path(place), test, out, work, options.sample)
    shutil.rmtree(work, ignore_errors=True)


def _predict(contents: Contents, ensemble: Path, test: Path, out: Path, work: Path, sample: Path | None) -> None:
    import numpy as np

    from labelstack.compute.worker import package_versions
    from labelstack.ensemble.folder import read_spec
    from labelstack.ensemble.machine import differences, machine
    from labelstack.ensemble.recompute import Members, ensemble_predictions
    from labelstack.formats.submission import write_submission
    from labelstack.formats.text_submission import write_texts
    from labelstack.kernel.image_files import wanted_images
    from labelstack.kernel.registered_rows import kept_order, registered_form
    from labelstack.kernel.stored_images import store_images
    from labelstack.stacking.deciding.decisions import Decision
    from labelstack.stacking.deciding.image_answers import image_answers
    from labelstack.support.quiet import load_tensorflow
    from labelstack.support.storage import sha256

    spec = read_spec(ensemble)
    registered = registered_form(ensemble, contents.submission, spec)
    form = registered
    if sample is not None:
        from labelstack.kernel.image_files import sample_form

        form = sample_form(sample, registered)
    wanted = wanted_images(form, kept_order(ensemble), test, contents.shard_rows)
    load_tensorflow()
    here = machine()
    if contents.machine and (other := differences(contents.machine, here)):
        _say(f"other machine than at registration, so last bits may differ ({'; '.join(other)})")
    key = f"{contents.source} {package_versions()}"
    statuses = store_images(wanted, spec.settings, work / "images", f"{key} {spec.settings}")
    _say(f"{statuses.count('ok'):,} of {len(statuses):,} images are there {_counted(statuses)}".rstrip())
    members = Members.of(ensemble, spec)
    base = {name: _model_predictions(contents, members, spec, ensemble, work, name, key) for name in spec.needed_models}
    unseen = np.zeros(len(spec.label_id), bool)
    unseen[list(contents.unseen)] = True
    blended = ensemble_predictions(members, spec, base)
    chosen, missing = image_answers(blended, Decision.from_dict(spec.decision), form.image_id, unseen)
    label_id = np.array(spec.label_id)
    write = write_submission if form.texts is None else write_texts
    write(out, form, [label_id[row].tolist() for row in chosen])
    digest = sha256(out)
    if form is registered:
        as_recorded = digest == contents.submission["sha256"]
        digest += ", as registered" if as_recorded else f", registered was {contents.submission['sha256']}"
    _say(f"{len(form.image_id):,} rows, {missing:,} of them answered without an image → {out} (SHA-256 {digest})")


def _model_predictions(
    contents: Contents, members: object, spec: Spec, ensemble: Path, work: Path, name: str, key: str
) -> Predictions:
    """What a model says of the stored images; finished shards are read back."""
    import hashlib

    from labelstack.ensemble import record
    from labelstack.ensemble.folder import network_file
    from labelstack.ensemble.recompute import Answered, Kept, Members, shard_predictions
    from labelstack.predictions import read_predictions, write_predictions
    from labelstack.support.storage import sha256

    assert isinstance(members, Members)
    boxes = record.read_boxes(ensemble, name)

    def kept(fold: str, shard: Path, predict: object) -> Answered:
        weights = contents.files[network_file(name, fold)].sha256
        seen = f"{spec.views[name][fold]} {spec.settings} {boxes}"
        digest = hashlib.sha256(f"{key} {weights} {seen} {sha256(shard)}".encode()).hexdigest()[:16]
        file = work / "parts" / f"{name}-{fold}-{shard.stem}-{digest}.npz"
        try:
            part = read_predictions(file)
        except UserError:
            assert callable(predict)
            image_id, probability = predict()
            write_predictions(file, image_id, probability)
            return image_id, probability
        return part.image_id, part.probability

    keep: Kept = kept
    return shard_predictions(members, spec, work / "images", name, boxes, keep)


def _refuse_lacking(packages: Mapping[str, str]) -> None:
    lacking = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
    if lacking:
        named = " ".join(lacking)
        raise InputProblems(
            "packages that the kernel imports are not installed here",
            [
                *(f"{package}: not found" for package in lacking),
                f"where there is no network, upload them as a data set (`pip download --no-deps {named}`) and run "
                f"`pip install --no-index --no-deps --find-links /kaggle/input/NAME {named}` first",
            ],
        )


def _work_folder(folder: Path) -> Path:
    """A folder of unfinished work, made or found; raise ``UserError`` where other things lie in it."""
    try:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / _MARK).exists():
            raise UserError(f"--work {folder}: holds other files, and would be removed at the end; name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise UserError(f"--work {folder}: can't be written ({error.strerror})") from None
    return folder


def _counted(statuses: Sequence[str]) -> str:
    others = {status: statuses.count(status) for status in sorted(set(statuses) - {"ok"})}
    return f"({', '.join(f'{count} {status}' for status, count in others.items())})" if others else ""


def _options(contents: Contents, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="kernel", description=f"Predict a folder of test images with {contents.title} and write a submission."
    )
    parser.add_argument(
        "--input",
        type=Path,
        action="append",
        help=f"folder below which the weights lie, in whatever folders; repeatable (default: {', '.join(INPUTS)})",
    )
    parser.add_argument("--test", type=Path, required=True, help="folder of the test images")
    parser.add_argument("--out", type=Path, default=Path("submission.csv"), help="file to write (submission.csv)")
    parser.add_argument("--sample", type=Path, help="sample_submission.csv, where its rows are not the registered ones")
    parser.add_argument("--work", type=Path, help="folder of unfinished work, removed at the end (default: OUT.work)")
    parser.add_argument("--hours", type=float, help="limit of time")
    return parser.parse_args(list(arguments))


def _say(sentence: str) -> None:
    print(f"kernel: {sentence}", flush=True)
