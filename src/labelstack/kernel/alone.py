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
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from labelstack.kernel.contents import Contents
from labelstack.support.errors import InputProblems, UserError

INPUTS = ("/kaggle/input", "../input")
_MARK = "labelstack-kernel"  # a file in the work folder: it is ours, and goes when the submission is written


def main(contents: Contents, arguments: Sequence[str]) -> int:
    """Run with what was typed; the exit code, 2 after a user's mistake, whose sentence is printed."""
    started = time.monotonic()
    options = _options(contents, arguments)
    try:
        run(contents, options, started)
    except UserError as error:
        print(f"kernel: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


def run(contents: Contents, options: argparse.Namespace, started: float) -> None:
    """Predict a test folder and write its submission.

    Parameters
    ----------
    options : what was typed, see ``_options``
    started : when, on the clock of ``time.monotonic``

    Raises
    ------
    UserError
        When a package, a weight or an image file is not there, or the submission cannot be written.
    """
    _refuse_lacking(contents.packages)
    from labelstack.kernel.found_files import find_files
    from labelstack.kernel.predicting import Typed, write_predicted
    from labelstack.support.storage import writable

    out: Path = options.out
    writable(out, "--out")
    if not options.test.is_dir():
        raise UserError(f"--test {options.test}: no such folder; name the one that holds the test images")
    named = options.input or [Path(place) for place in INPUTS]
    inputs = [folder for folder in named if folder.is_dir()]
    if not inputs:
        shown = ", ".join(map(str, named))
        raise UserError(f"--input {shown}: no such folder; name the one that holds the kernel's weights")
    if options.hours is not None and not options.hours > 0:
        raise UserError(f"--hours {options.hours:g}: expected more than 0")
    work = _work_folder(options.work or out.with_name(f"{out.name}.work"))
    limit = None if options.hours is None else 3600 * options.hours
    with tempfile.TemporaryDirectory(prefix="labelstack-") as place:
        for name, path in find_files(contents.files, inputs).items():
            (Path(place) / name).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(path.resolve(), Path(place) / name)
        write_predicted(contents, Path(place), Typed(options.test, out, work, options.sample, limit, started), _say)
    shutil.rmtree(work, ignore_errors=True)


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
    parser.add_argument("--hours", type=float, help="limit of time, for which views and models are left out")
    return parser.parse_args(list(arguments))


def _say(sentence: str) -> None:
    print(f"kernel: {sentence}", flush=True)
