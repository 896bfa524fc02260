"""The submission file of the iMaterialist Challenge (Fashion) at FGVC5, 2018, and the sample that gives its form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack import storage
from labelstack.errors import UserError
from labelstack.formats.csv_file import read_csv
from labelstack.formats.files import SAMPLE_SUBMISSION
from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems
from labelstack.formats.records import INT64_MAX, parse_id
from labelstack.storage import replacing

HEADER = ("id", "predicted")
_HEADER_WANTED = "a header of two names, the first of them the image's id (image_id,label_id or id,predicted)"
_NAME = re.compile(r"[A-Za-z][\w .-]*", re.ASCII)


@dataclass(frozen=True)
class Form:
    """What a submission looks like.

    Attributes
    ----------
    image_id : int64 [n], every test image once, in the order of the rows
    header : names of the two columns
    """

    image_id: NDArray[np.int64]
    header: tuple[str, str] = HEADER

    def __post_init__(self) -> None:
        if not is_header(self.header):
            raise UserError(f"submission: expected {_HEADER_WANTED}, found {found(','.join(self.header))}")


def read_sample(path: Path, test_id: Sequence[int] | None, problems: list[str]) -> Form:
    """The form that a sample submission gives; without the file ``id,predicted`` in the order of the test images.

    Parameters
    ----------
    test_id : ids of the test images, each of which the sample must have once, and no others; ``None`` when they could
        not be read, so that only the header is looked at

    Returns
    -------
    Form
        The default one after adding problems.
    """
    default = Form(np.array(test_id or [], np.int64))
    rows = read_csv(path, problems)
    if rows is None:
        return default
    if not rows or not is_header(rows[0][1]):
        what = found(",".join(rows[0][1])) if rows else "an empty file"
        problems.append(f"{SAMPLE_SUBMISSION}: line 1: expected {_HEADER_WANTED}, found {what}")
        return default
    if test_id is None:
        return default
    header = (rows[0][1][0].strip(), rows[0][1][1].strip())
    here = FileProblems(SAMPLE_SUBMISSION)
    order = _order(rows[1:], header, frozenset(test_id), here)
    problems += here.sentences()
    return default if here else Form(np.array(order, np.int64), header)


def is_header(names: Sequence[str]) -> bool:
    """Whether these can be the two columns of a submission: two plain names, the first of which ends in ``id``."""
    plain = [name.strip() for name in names]
    if len(plain) != 2 or plain[0] == plain[1] or not all(map(_NAME.fullmatch, plain)):
        return False
    return plain[0].casefold().endswith("id")


def _order(
    rows: Sequence[tuple[int, list[str]]], header: tuple[str, str], wanted: frozenset[int], problems: FileProblems
) -> list[int]:
    """Image ids of the lines, after adding a problem for each that is not a test image or stands twice."""
    lines: dict[int, int] = {}
    unread = 0
    for line, row in rows:
        image = parse_id(row[0].strip(), INT64_MAX)
        if len(row) != 2:
            problems.add("", f"line {line}", "", f"two fields ({','.join(header)})", str(len(row)))
        if image is None:
            unread += 1
            problems.add("", f"line {line}", header[0], "the id of a test image", found(row[0]))
        elif lines.setdefault(image, line) != line:
            problems.add("", f"line {line}", header[0], "each id once", f"{image} on line {lines[image]} too")
        elif image not in wanted:
            problems.add("", f"line {line}", header[0], "the id of an image in test.json", str(image))
    absent = sorted(wanted - lines.keys())
    if absent and not unread >= len(absent) > 3:
        ids = ", ".join(map(str, absent[:5])) + (", …" if len(absent) > 5 else "")
        some = "an image" if len(absent) == 1 else f"{len(absent):,} images"
        problems.add("", header[0], "", "every image of test.json", f"no line for {some} ({ids})")
    return list(lines)


def write_form(path: Path, form: Form) -> None:
    """Write a form as JSON; equal forms give equal bytes."""
    content = {"header": list(form.header), "image_id": form.image_id.tolist()}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_form(path: Path) -> Form:
    """Read what ``write_form`` wrote; raise ``UserError`` when it is absent or something else."""
    content = storage.read_json(path)
    try:
        first, second = content["header"]
        ids = np.array(content["image_id"] or np.zeros(0, np.int64))
    except (TypeError, KeyError, ValueError):
        raise UserError(f"{path}: expected header and image_id") from None
    if not is_header([str(first), str(second)]) or ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise UserError(f"{path}: expected header and image_id")
    return Form(ids.astype(np.int64), (first, second))


def write_submission(
    path: str | Path, image_id: ArrayLike, labels: Sequence[Iterable[int]], header: tuple[str, str] = HEADER
) -> None:
    """Write the header and a row per test image, label ids ascending and space-delimited, blank when none.

    Parameters
    ----------
    image_id : int [n], unique, in the competition's order
    labels : n collections of label ids
    header : names of the two columns

    Raises
    ------
    ValueError
        When lengths differ, an image id stands twice, an id is not a whole number ≥ 0 or the header is none. Nothing
        is written then.
    """
    ids = np.asarray(image_id)
    if ids.ndim != 1 or len(ids) != len(labels):
        raise ValueError(f"expected one collection of labels per image id, found {len(labels)} for ids {ids.shape}")
    if len(ids) and not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"image_id must hold integers, not {ids.dtype}")
    unique, times = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        raise ValueError(f"image_id must be unique; found more than once: {unique[times > 1][:5].tolist()}")
    if len(ids) and unique[0] < 0:
        raise ValueError(f"image_id must not be negative, found {unique[0]}")
    if not is_header(header):
        raise ValueError(f"expected {_HEADER_WANTED}, found {list(header)}")
    rows = [f"{image},{_row(image, row)}\n" for image, row in zip(ids.tolist(), labels, strict=True)]
    with replacing(path) as temporary:
        temporary.write_text(",".join(header) + "\n" + "".join(rows), encoding="ascii", newline="\n")


def _row(image: int, labels: Iterable[int]) -> str:
    values = list(labels)
    if any(isinstance(v, bool | np.bool_) or not isinstance(v, int | np.integer) or v < 0 for v in values):
        raise ValueError(f"image {image}: labels must be whole numbers ≥ 0, found {values[:10]}")
    if len(set(values)) != len(values):
        raise ValueError(f"image {image}: a label stands twice in {values[:10]}")
    return " ".join(str(int(v)) for v in sorted(values))
