"""What a submission looks like, and the file of the iMaterialist Challenge (Fashion) at FGVC5, 2018."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.support import storage
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

HEADER = ("id", "predicted")
HEADER_WANTED = "a header of two names, the first of them the image's id (image_id,label_id or id,predicted)"
_NAME = re.compile(r"[A-Za-z][\w .-]*", re.ASCII)


@dataclass(frozen=True)
class Texts:
    """What stands in a submission for ids, in formats whose images and labels are texts.

    Attributes
    ----------
    image : name of each image of the form, in its order
    label : label id → its name
    separator : what stands between two labels
    """

    image: Sequence[str]
    label: Mapping[int, str]
    separator: str


@dataclass(frozen=True)
class Form:
    """What a submission looks like.

    Attributes
    ----------
    image_id : int64 [n], every test image once, in the order of the rows
    header : names of the two columns; with texts any two
    texts : None: ids stand there themselves
    """

    image_id: NDArray[np.int64]
    header: tuple[str, str] = HEADER
    texts: Texts | None = None

    def __post_init__(self) -> None:
        if self.texts is None and not is_header(self.header):
            raise UserError(f"submission: expected {HEADER_WANTED}, found {','.join(self.header)!r}")
        if self.texts is not None and len(self.texts.image) != len(self.image_id):
            raise UserError(f"submission: {len(self.texts.image)} names for {len(self.image_id)} images")


def is_header(names: Sequence[str]) -> bool:
    """Whether these can be the two columns of a submission: two plain names, the first of which ends in ``id``."""
    plain = [name.strip() for name in names]
    if len(plain) != 2 or plain[0] == plain[1] or not all(map(_NAME.fullmatch, plain)):
        return False
    return plain[0].casefold().endswith("id")


def write_form(path: Path, form: Form) -> None:
    """Write a form as JSON; equal forms give equal bytes."""
    content: dict[str, Any] = {"header": list(form.header), "image_id": form.image_id.tolist()}
    if form.texts is not None:
        label = {str(key): name for key, name in form.texts.label.items()}
        content["texts"] = {"image": list(form.texts.image), "label": label, "separator": form.texts.separator}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_form(path: Path) -> Form:
    """Read what ``write_form`` wrote; raise ``UserError`` when it is absent or something else."""
    content = storage.read_json(path)
    try:
        first, second = content["header"]
        ids = np.array(content["image_id"] or np.zeros(0, np.int64))
        texts = _texts(content["texts"]) if "texts" in content else None
    except (TypeError, KeyError, ValueError, AttributeError):
        raise UserError(f"{path}: expected header and image_id") from None
    header = texts is not None or is_header([str(first), str(second)])
    if not header or ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise UserError(f"{path}: expected header and image_id")
    return Form(ids.astype(np.int64), (first, second), texts)


def _texts(content: Mapping[str, Any]) -> Texts:
    label = {int(key): str(name) for key, name in content["label"].items()}
    return Texts(list(map(str, content["image"])), label, str(content["separator"]))


def write_submission(path: str | Path, form: Form, labels: Sequence[Iterable[int]]) -> None:
    """Write the header and a row per test image, label ids ascending and space-delimited, blank when none.

    Parameters
    ----------
    labels : n collections of label ids, in the form's order

    Raises
    ------
    ValueError
        When lengths differ, an image id stands twice or an id is not a whole number ≥ 0. Nothing is written then.
    """
    ids = np.asarray(form.image_id)
    if ids.ndim != 1 or len(ids) != len(labels):
        raise ValueError(f"expected one collection of labels per image id, found {len(labels)} for ids {ids.shape}")
    if len(ids) and not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"image_id must hold integers, not {ids.dtype}")
    unique, times = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        raise ValueError(f"image_id must be unique; found more than once: {unique[times > 1][:5].tolist()}")
    if len(ids) and unique[0] < 0:
        raise ValueError(f"image_id must not be negative, found {unique[0]}")
    rows = [f"{image},{_row(image, row)}\n" for image, row in zip(ids.tolist(), labels, strict=True)]
    with replacing(path) as temporary:
        temporary.write_text(",".join(form.header) + "\n" + "".join(rows), encoding="ascii", newline="\n")


def _row(image: int, labels: Iterable[int]) -> str:
    values = list(labels)
    if any(isinstance(v, bool | np.bool_) or not isinstance(v, int | np.integer) or v < 0 for v in values):
        raise ValueError(f"image {image}: labels must be whole numbers ≥ 0, found {values[:10]}")
    if len(set(values)) != len(values):
        raise ValueError(f"image {image}: a label stands twice in {values[:10]}")
    return " ".join(str(int(v)) for v in sorted(values))
