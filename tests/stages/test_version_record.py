"""The probe images are the first batches that the stage `predict` makes, whole ones, however the shards are cut."""

from __future__ import annotations

import io
import tempfile
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labelstack.images.loader import evaluation_batches
from labelstack.images.shards.shard_files import KEY_LENGTH, Shard, shard_paths, write_shard
from labelstack.params import Params
from labelstack.stages import paths
from labelstack.stages.version_record import probe, record
from labelstack.support.errors import UserError
from tiny import REPOSITORY, merged

SHIPPED = yaml.safe_load((REPOSITORY / "params.yaml").read_text())


def params(batch_size: int, images: int) -> Params:
    change = {"prediction": {"batch_size": batch_size}, "tracking": {"probe_images": images}}
    return Params(**merged(SHIPPED, change))


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number * 5 % 256, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def shards(rows: list[list[bool]]) -> None:
    """Test shards with an image for every True, and one that could not be downloaded for every False."""
    first = 0
    for number, there in enumerate(rows):
        ids = np.arange(first, first + len(there))
        first += len(there)
        size = np.where(there, 8, 0).astype(np.int32)
        shard = Shard(
            ids,
            [jpeg(int(i)) if ok else None for i, ok in zip(ids, there, strict=True)],
            ["ok" if ok else "http_404" for ok in there],
            size,
            size,
        )
        write_shard(paths.shards("test") / f"shard-{number:05d}.parquet", shard, ["0" * KEY_LENGTH] * len(there))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=7), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(1, 12),
)
def test_probe_batches_are_the_first_of_the_stage_predict(rows: list[list[bool]], size: int, images: int) -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        shards(rows)
        found = probe(params(size, images))
        batches = [evaluation_batches(shard, None, 8, size) for shard in shard_paths(paths.shards("test"))]
        predicted = [ids.tolist() for of_shard in batches for ids, _ in of_shard]
        taken = [found.image_id[found.batch == number].tolist() for number in np.unique(found.batch)]
    assert taken == predicted[: len(taken)]
    assert sum(map(len, taken)) >= min(images, sum(map(len, predicted)))
    assert sum(map(len, taken[:-1])) < images
    assert list(found.jpeg) == [jpeg(i) for i in found.image_id.tolist()]


def test_a_stage_that_has_not_run_is_named(tmp_path: Path) -> None:
    with chdir(tmp_path), pytest.raises(UserError, match=r"submission\.json: not found"):
        record(params(2, 2))
