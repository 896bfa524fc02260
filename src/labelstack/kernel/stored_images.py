"""Images of the test folder as a download stores them, shard by shard; finished shards are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from labelstack.ensemble.folder import EnsembleSettings
from labelstack.images.fetching.status import RefusedError
from labelstack.images.pixels.budget import Budget
from labelstack.images.pixels.decode import to_stored_jpeg
from labelstack.images.shards.shard_files import KEY_LENGTH, Shard, is_damaged, read_overview, write_shard
from labelstack.kernel.image_files import WantedImages
from labelstack.params.images import ImagesSection
from labelstack.support.cores import cores

Stored = tuple[bytes | None, str, int, int]


def store_images(wanted: WantedImages, settings: EnsembleSettings, folder: Path, key: str) -> list[str]:
    """Write the shards of all images, as the stage `download` would; the status of each image, in their order.

    Parameters
    ----------
    settings : of the ensemble: how images are normalised, what one may take
    folder : where shards lie; a whole one of the same image files is kept
    key : of all else that decides about their bytes
    """
    images = ImagesSection(
        **{name: value for name, value in settings.fetch.items() if name in ImagesSection.model_fields}
    )
    normalise = partial(
        to_stored_jpeg,
        store_size=settings.store_size,
        quality=settings.jpeg_quality,
        damaged=settings.damaged,
        allowed=Budget.of(images),
    )
    statuses = list[str]()
    with ThreadPoolExecutor(cores()) as threads:
        for number, rows in enumerate(_shards_of(wanted)):
            files = [wanted.file[row] for row in rows]
            keys = list(threads.map(partial(_row_key, key), wanted.image_id[rows].tolist(), files))
            path = folder / f"shard-{number:05d}.parquet"
            before = read_overview(path)
            if before is not None and before.keys == keys and not is_damaged(path):
                statuses += before.status
                continue
            stored = list(threads.map(partial(_stored, normalise, images.max_bytes), files))
            write_shard(path, _shard(wanted, rows, stored), keys)
            statuses += [status for _, status, _, _ in stored]
    return statuses


def _shards_of(wanted: WantedImages) -> Iterator[list[int]]:
    for number in np.unique(wanted.shard):
        yield np.flatnonzero(wanted.shard == number).tolist()


def _row_key(key: str, image_id: int, file: Path | None) -> str:
    digest = hashlib.sha256(f"{key} {image_id} ".encode())
    if file is not None:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:KEY_LENGTH]


def _stored(normalise: Callable[[bytes], tuple[bytes, int, int]], most: int, file: Path | None) -> Stored:
    if file is None:
        return None, "missing", 0, 0
    if file.stat().st_size > most:
        return None, "too_large", 0, 0
    try:
        jpeg, width, height = normalise(file.read_bytes())
    except RefusedError as refusal:
        return None, refusal.status, 0, 0
    return jpeg, "ok", width, height


def _shard(wanted: WantedImages, rows: Sequence[int], stored: Sequence[Stored]) -> Shard:
    jpeg, status, width, height = zip(*stored, strict=True)
    return Shard(wanted.image_id[rows], list(jpeg), list(status), np.array(width, np.int32), np.array(height, np.int32))
