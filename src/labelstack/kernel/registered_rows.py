"""Rows of the submission that the ensemble was registered with, out of the files of a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from labelstack.ensemble import record
from labelstack.ensemble.folder import Spec
from labelstack.ensemble.recorded_form import label_texts
from labelstack.formats.submission import Form, Texts
from labelstack.kernel.contents import ORDER
from labelstack.predictions import read_predictions
from labelstack.support.archive import DAMAGED_ARCHIVE
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

Ids = NDArray[np.int64]


def registered_form(ensemble: Path, submission: Mapping[str, object], spec: Spec) -> Form:
    """The form of the registered submission; ``submission`` is ``Contents.submission``."""
    first, second = cast("tuple[str, str]", tuple(cast("list[str]", submission["header"])))
    texts = None
    if "separator" in submission:
        called = label_texts(submission, spec.label_id, spec.labels)
        texts = Texts(record.read_test_name(ensemble), called, str(submission["separator"]))
    return Form(record.read_test_id(ensemble), (first, second), texts)


def write_order(path: Path, ensemble: Path, rows: int) -> None:
    """Write in which order and with which others every registered test image was predicted; equal content, equal bytes.

    The record has the downloaded images in the manifest's order, and all of them in the submission's. Where the two
    orders differ, the places of images that were not downloaded are not known, and they come last.

    Parameters
    ----------
    rows : images of a shard
    """
    there, image_id = (
        read_predictions(record.predictions_file(ensemble, "blend")).image_id,
        record.read_test_id(ensemble),
    )
    absent = image_id[~np.isin(image_id, there)]
    if not len(absent):
        order, shard = there, np.arange(len(there)) // rows
    elif np.array_equal(image_id[np.isin(image_id, there)], there):
        order, shard = image_id, np.arange(len(image_id)) // rows
    else:
        order, last = np.concatenate([there, absent]), (len(there) - 1) // rows + 1
        shard = np.concatenate([np.arange(len(there)) // rows, last + np.arange(len(absent)) // rows])
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, image_id=order.astype(np.int64), shard=shard.astype(np.int64))


def kept_order(ensemble: Path) -> tuple[Ids, Ids]:
    """Ids and shards, int64 [n] each, that ``write_order`` wrote."""
    try:
        with np.load(ensemble / ORDER, allow_pickle=False) as content:
            return content["image_id"], content["shard"]
    except (*DAMAGED_ARCHIVE, KeyError, ValueError) as error:
        raise UserError(f"{ORDER}: can't be read ({error})") from None
