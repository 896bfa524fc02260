"""What stages learn from and are scored on, for the runs' inputs: splits, or parts of them, by DVC's hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.stages import paths
from labelstack.stages.common import ROOT
from labelstack.stages.fold_files import Fitted
from labelstack.stages.photos import photo_places
from labelstack.stages.rows import Rows
from labelstack.tracking.datasets import Context, Dataset
from labelstack.tracking.lineage import input_hash, read_lock

_DIGEST = 12  # characters, that the runs table shows it


def training_data(params: Params, rows: Rows, holdout: Rows) -> list[Dataset]:
    """What a base model learns from, and the part of the split that is held out where there is one."""
    parts = [_split(params, "train", rows.image_id, rows.Y)]
    if len(holdout):
        held = _split(params, "train", holdout.image_id, holdout.Y, part="held out", context="validation")
        parts.append(held)
    return parts


def stacking_data(params: Params, rows: Rows) -> Dataset:
    """The rows that base models are scored on, and that stackers and the blend learn from fold by fold."""
    return _split(params, rows.split, rows.image_id, rows.Y, context="validation")


def test_data(params: Params, image_id: NDArray[np.int64]) -> Dataset:
    """The images of the submission; their labels are not known here."""
    return _split(params, "test", image_id, None)


def photo_data(params: Params, photos: Fitted) -> list[Dataset]:
    """Photos that a segmenter learns from, and those that are held out where there are such."""
    places = photo_places(params)
    files = [places.shards("train"), places.manifest("train"), places.instances]
    parts = [_split(params, "train", photos.fit, None, files=files)]
    if len(photos.holdout):
        held = _split(params, "train", photos.holdout, None, part="held out", context="validation", files=files)
        parts.append(held)
    return parts


def _split(
    params: Params,
    split: Context,
    image_id: NDArray[np.int64],
    Y: NDArray[np.bool_] | None,
    *,
    part: str = "",
    context: Context | None = None,
    files: list[Path] | None = None,
) -> Dataset:
    lock = read_lock(ROOT)
    files = files or [paths.shards(split), paths.manifest(split), paths.LABELS]
    hashes = {path.as_posix(): input_hash(ROOT, path.as_posix(), lock) for path in files}
    used = hashlib.md5(np.asarray(image_id, np.int64).tobytes(), usedforsecurity=False).hexdigest()
    counts = {"images": len(image_id)}
    if Y is not None:
        counts |= {"labels": Y.shape[1], "positives": int(Y.sum())}
    source: dict[str, Any] = {
        "uri": files[0].as_posix(),
        "manifest": files[1].as_posix(),
        "md5": {path: value for path, value in hashes.items() if value},
    }
    seen = "\n".join([f"{path} {value}" for path, value in hashes.items()] + [used])
    digest = hashlib.md5(seen.encode(), usedforsecurity=False).hexdigest()[:_DIGEST]
    name = f"{Path(params.dataset.root).name} {split}" + (f" ({part})" if part else "")
    return Dataset(name, digest, context or split, source, counts)
