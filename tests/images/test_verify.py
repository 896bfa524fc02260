"""Shards that are no longer what was stored: found, made anew, and never quietly the poorer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from images.server import Server
from labelstack.images.shards import shard_files as shards
from labelstack.images.shards.fill import download_split
from labelstack.images.shards.verify import check_shards
from labelstack.params.images import ImagesSection
from labelstack.support.errors import UserError
from labelstack.support.storage import sha256


def manifest_of(server: Server, count: int = 20) -> pd.DataFrame:
    return pd.DataFrame(
        {"image_id": np.arange(1, count + 1), "url": [[server.url(f"img/{i}.jpg")] for i in range(count)]}
    )


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def in_an_image(path: Path) -> int:
    """A place in the file that lies within a stored JPEG."""
    jpeg = next(data for data in shards.read_shard(path).bytes if data)
    return path.read_bytes().index(jpeg) + len(jpeg) // 2


def without_digest(path: Path) -> None:
    """The file as it was written before shards carried digests."""
    table = pq.read_table(path)
    said = {key: value for key, value in table.schema.metadata.items() if key != b"labelstack.sha256"}
    pq.write_table(
        table.replace_schema_metadata(said), path, compression="none", use_dictionary=["status"],
        write_statistics=["image_id", "status"],
    )  # fmt: skip


def test_a_flipped_bit_in_a_stored_image_is_made_good(server: Server, params: ImagesSection, tmp_path: Path) -> None:
    manifest, out = manifest_of(server), tmp_path / "train"
    first = download_split(manifest, out, params, tmp_path)
    whole = [sha256(path) for path in shards.shard_paths(out)]
    path = shards.shard_paths(out)[1]
    flip(path, in_an_image(path))
    with pytest.raises(UserError, match=r"shard-00001\.parquet: damaged.*labelstack stage download train"):
        check_shards(out, "all", "")
    server.hits.clear()
    assert download_split(manifest, out, params, tmp_path) == first
    assert [sha256(path) for path in shards.shard_paths(out)] == whole
    assert set(server.hits) == {f"img/{i}.jpg" for i in range(10, 20)}  # of that shard, and no other
    check_shards(out, "all", "")


def test_no_flipped_bit_goes_unseen(server: Server, params: ImagesSection, tmp_path: Path) -> None:
    """Wherever a bit is flipped: the shard is known to be damaged, or what is read of it is what was stored."""
    out = tmp_path / "train"
    download_split(manifest_of(server, 6), out, params, tmp_path)
    (path,) = shards.shard_paths(out)
    whole, content = shards.read_shard(path), path.read_bytes()
    overview, seen = shards.read_overview(path), 0
    for place in range(0, len(content), max(1, len(content) // 300)):
        flip(path, place)
        if shards.is_damaged(path):
            seen += 1
        else:
            found = shards.read_shard(path)
            assert found.bytes == whole.bytes
            assert found.status == whole.status
            for name in ("image_id", "width", "height"):
                np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
            assert shards.read_overview(path) in (overview, None)
        path.write_bytes(content)
    assert seen > 150


def test_images_that_are_gone_are_not_lost_without_a_word(
    server: Server, params: ImagesSection, tmp_path: Path
) -> None:
    out = tmp_path / "train"
    manifest = manifest_of(server, 10)
    download_split(manifest, out, params, tmp_path)
    (path,) = shards.shard_paths(out)
    flip(path, in_an_image(path))
    damaged = sha256(path)
    away = params.model_copy(update={"allow_hosts": []})
    with pytest.raises(UserError, match=r"10 of its images can't be fetched again \(10 forbidden\).*dvc checkout"):
        download_split(manifest, out, away, tmp_path)
    assert sha256(path) == damaged
    with pytest.raises(UserError, match="absent, damaged, or made from other rows"):
        download_split(manifest, out, params, tmp_path, again=["timeout"])
    path.unlink()
    assert download_split(manifest, out, away, tmp_path)["status"] == {"forbidden": 10}


def test_shards_of_before_stay_as_they_are(server: Server, params: ImagesSection, tmp_path: Path) -> None:
    manifest, out = manifest_of(server), tmp_path / "train"
    first = download_split(manifest, out, params, tmp_path)
    for path in shards.shard_paths(out):
        without_digest(path)
    before = [sha256(path) for path in shards.shard_paths(out)]
    server.hits.clear()
    check_shards(out, "all", "")
    assert download_split(manifest, out, params, tmp_path) == first
    assert not server.hits
    assert [sha256(path) for path in shards.shard_paths(out)] == before


def test_none_compares_nothing(server: Server, params: ImagesSection, tmp_path: Path) -> None:
    manifest, out = manifest_of(server, 5), tmp_path / "train"
    none = params.model_copy(update={"verify": "none"})
    download_split(manifest, out, none, tmp_path)
    (path,) = shards.shard_paths(out)
    flip(path, in_an_image(path))
    damaged = sha256(path)
    download_split(manifest, out, none, tmp_path)
    check_shards(out, "none", "")
    assert sha256(path) == damaged


def test_a_sample_is_all_of_few_and_a_sixteenth_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []

    def look(path: Path) -> bool:
        looked_at.append(path.name)
        return False

    monkeypatch.setattr("labelstack.images.shards.verify.is_damaged", look)
    seen: set[str] = set()
    for number in range(16):
        (tmp_path / f"shard-{number:05d}.parquet").touch()
    check_shards(tmp_path, "sample", "a")
    assert len(set(looked_at)) == 16
    for number in range(16, 400):
        (tmp_path / f"shard-{number:05d}.parquet").touch()
    for salt in map(str, range(40)):
        looked_at.clear()
        check_shards(tmp_path, "sample", salt)
        assert len(set(looked_at)) == len(looked_at) == 25
        seen |= set(looked_at)
    assert len(seen) > 350  # other stages look at others: 400 · (1 − (1 − 1/16)^40) = 370


def test_the_digest_is_of_what_is_stored_however_it_is_cut(
    server: Server, params: ImagesSection, tmp_path: Path
) -> None:
    out = tmp_path / "train"
    download_split(manifest_of(server, 9), out, params, tmp_path)
    (path,) = shards.shard_paths(out)
    shutil.copy(path, tmp_path / "copy.parquet")
    pq.write_table(pq.read_table(path), path, row_group_size=4)
    assert sha256(path) != sha256(tmp_path / "copy.parquet")
    assert not shards.is_damaged(path)
    table = pq.read_table(path)
    pq.write_table(table.take([1, 0, *range(2, 9)]).replace_schema_metadata(table.schema.metadata), path)
    assert shards.is_damaged(path)
