"""A submission in names: what a table of images and labels looks like when it comes back."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from labelstack.formats.submission import Form
from labelstack.params.dataset import JSON
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing


def write_texts(path: str | Path, form: Form, labels: Sequence[Iterable[int]]) -> None:
    """Write a CSV file with the names of images and labels, in the form's order; equal labels give equal bytes.

    Parameters
    ----------
    form : with texts; its separator stands between two labels, ``json`` makes every cell a JSON list
    labels : n collections of label ids, in the form's order

    Raises
    ------
    ValueError
        When lengths differ. Nothing is written then.
    UserError
        When the form has no texts: it is of another format.
    """
    if form.texts is None:
        raise UserError("submission: its form holds no names: run `labelstack stage ingest` for this data set")
    texts = form.texts
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(form.header)
        for image, row in zip(texts.image, labels, strict=True):
            names = [texts.label[int(label)] for label in sorted(row)]
            joined = json.dumps(names, ensure_ascii=False) if texts.separator == JSON else texts.separator.join(names)
            writer.writerow([image, joined])
