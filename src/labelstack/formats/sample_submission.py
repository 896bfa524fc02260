"""``sample_submission.csv``: it gives the submission's header and the order of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labelstack.formats.csv_file import read_csv
from labelstack.formats.json_file import found
from labelstack.formats.problems import FileProblems
from labelstack.formats.reading import SAMPLE_SUBMISSION
from labelstack.formats.records import INT64_MAX, parse_id
from labelstack.formats.submission import HEADER_WANTED, Form, is_header


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
        problems.append(f"{SAMPLE_SUBMISSION}: line 1: expected {HEADER_WANTED}, found {what}")
        return default
    if test_id is None:
        return default
    header = (rows[0][1][0].strip(), rows[0][1][1].strip())
    here = FileProblems(SAMPLE_SUBMISSION)
    order = _order(rows[1:], header, frozenset(test_id), here)
    problems += here.sentences()
    return default if here else Form(np.array(order, np.int64), header)


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
