"""Which images a kernel predicts: rows of a submission, and the file of each in the test folder."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from labelstack.formats.submission import Form, Texts
from labelstack.formats.text_id import text_ids
from labelstack.support.errors import InputProblems, UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif"})
_INT64_MAX = 2**63 - 1
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class WantedImages:
    """Images in the order in which they are predicted.

    Attributes
    ----------
    image_id : int64 [n]
    shard : int64 [n], ascending: images of one number are normalised together, and their batches end with it
    file : n paths; None where the test folder has none
    """

    image_id: NDArray[np.int64]
    shard: NDArray[np.int64]
    file: Sequence[Path | None]


def sample_form(path: Path, form: Form) -> Form:
    """The form of a sample submission, in the words of the one that the ensemble was registered with.

    Parameters
    ----------
    form : the registered one; with texts, images of the sample are called by texts too

    Raises
    ------
    InputProblems
        That names every line that is no row of a submission.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), 1) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--sample {path}: can't be read as a CSV file ({error})") from None
    if not lines or len(lines[0][1]) != 2:
        raise UserError(f"--sample {path}: expected a header of two columns, the first of which names images")
    first, second = (cell.strip() for cell in lines[0][1])
    problems, places = list[str](), dict[str, int]()
    for number, row in lines[1:]:
        name = row[0] if form.texts else row[0].strip()
        if form.texts is None and not (name.isdecimal() and int(name) <= _INT64_MAX):
            problems.append(f"line {number}: expected an image's id, a whole number, found {row[0][:40]!r}")
        elif places.setdefault(name, number) != number:
            problems.append(f"line {number}: expected each image once, {name[:40]!r} is on line {places[name]} too")
    names = list(places)
    ids = text_ids(names, problems) if form.texts else np.array([], np.int64)
    if not names:
        problems.append("expected a row for each image, found none")
    if problems:
        raise InputProblems(f"--sample {path}", problems)
    if form.texts is None:
        return Form(np.array([int(name) for name in names], np.int64), (first, second))
    return Form(ids, (first, second), Texts(names, form.texts.label, form.texts.separator))


def wanted_images(form: Form, kept: tuple[Ids, Ids], folder: Path, rows: int) -> WantedImages:
    """The images of a form with their files.

    Parameters
    ----------
    kept : int64 [m] ids and shards of the images that the registered submission was of; images are predicted in that
        order and together with the same others where the form has just these
    folder : of the test images
    rows : images of a shard, where the form has others

    Raises
    ------
    UserError
        When not one image of the form has a file there, or one has two.
    """
    image_id, shard = kept
    if not np.array_equal(np.sort(image_id), np.sort(form.image_id)):
        image_id, shard = form.image_id, np.arange(len(form.image_id)) // rows
    names = form.texts.image if form.texts else [str(i) for i in form.image_id.tolist()]
    files = _files_of(names, folder)
    if not any(files.values()):
        shown = ", ".join(names[:3])
        raise UserError(
            f"--test {folder}: no image of the submission lies there (looked for {shown}, … with endings "
            f"{' '.join(sorted(SUFFIXES))}); name the folder of the test images, and with --sample the submission's "
            "rows where the images are others than at registration"
        )
    named = dict(zip(form.image_id.tolist(), names, strict=True))
    return WantedImages(image_id, shard, [files[named[i]] for i in image_id.tolist()])


def _files_of(names: Sequence[str], folder: Path) -> dict[str, Path | None]:
    """The file of each name: whose path below the folder it is, with or without its ending, else whose last part."""
    by_path, by_last = dict[str, list[Path]](), dict[str, list[Path]]()
    for place, folders, inside in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(inside):
            path = Path(place, name)
            if path.suffix.lower() in SUFFIXES:
                below = path.relative_to(folder).as_posix()
                for index, key in ((by_path, below), (by_last, name)):
                    for called in (key, key[: -len(path.suffix)]):
                        index.setdefault(called, []).append(path)
    found, problems = dict[str, Path | None](), list[str]()
    for name in names:
        there = _candidates(name, by_path, by_last)
        if len(there) > 1:
            problems.append(f"{name}: expected one file, found {', '.join(map(str, there[:3]))}")
        found[name] = there[0] if there else None
    if problems:
        raise InputProblems(f"--test {folder}", problems)
    return found


def _candidates(name: str, by_path: Mapping[str, list[Path]], by_last: Mapping[str, list[Path]]) -> list[Path]:
    last = PurePosixPath(name).name
    return by_path.get(name) or by_path.get(last) or by_last.get(last) or []
