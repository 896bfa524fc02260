"""Shards: parquet files of image bytes with a status per row, in the manifest's order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("bytes", pa.binary()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
    ]
)
KEY_LENGTH = 12
_KEYS = b"labelstack.rows"
_BYTES = b"labelstack.bytes"
_DIGEST = b"labelstack.sha256"


@dataclass(frozen=True)
class Shard:
    """The rows of one file; where ``status`` is not ``ok``, bytes are None and width and height 0."""

    image_id: NDArray[np.int64]
    bytes: list[bytes | None]
    status: list[str]
    width: NDArray[np.int32]
    height: NDArray[np.int32]


@dataclass(frozen=True)
class Jpegs:
    """Ids and images of one file; a ``jpeg`` is a view of Arrow's memory, not a copy, or None where there is none."""

    image_id: NDArray[np.int64]
    jpeg: list[memoryview | None]


@dataclass(frozen=True)
class Overview:
    """What is known of a file without its images; ``keys`` say what each row was made from, ``bytes`` is their sum."""

    image_id: list[int]
    status: list[str]
    keys: list[str]
    bytes: int


def shard_paths(folder: str | Path) -> list[Path]:
    """The shards of a split in the manifest's order."""
    return sorted(Path(folder).glob("shard-*.parquet"))


def read_shard(path: str | Path) -> Shard:
    """Read one shard whole."""
    table = _read(path, SCHEMA.names)
    return Shard(
        table["image_id"].to_numpy(),
        table["bytes"].to_pylist(),
        table["status"].to_pylist(),
        table["width"].to_numpy(),
        table["height"].to_numpy(),
    )


def read_jpegs(path: str | Path) -> Jpegs:
    """Read a shard's images without a copy for each: ``decode`` takes the views as they are."""
    table = _read(path, ["image_id", "bytes"])
    views: list[memoryview | None] = []
    for chunk in table["bytes"].chunks:
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        memory = memoryview(data) if data is not None else memoryview(b"")
        valid = chunk.is_valid().to_numpy(zero_copy_only=False).tolist()
        views += [memory[ends[i] : ends[i + 1]] if valid[i] else None for i in range(len(chunk))]
    return Jpegs(table["image_id"].to_numpy(), views)


def status_frame(path: str | Path) -> pd.DataFrame:
    """Image id, status, width and height of every image, without the bytes, in the manifest's order.

    Parameters
    ----------
    path : str or Path
        A split's folder, or one shard.
    """
    columns = ["image_id", "status", "width", "height"]
    paths = shard_paths(path) if Path(path).is_dir() else [Path(path)]
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    tables = [_read(shard, columns).cast(schema) for shard in paths]
    frame: pd.DataFrame = pa.concat_tables(tables or [schema.empty_table()]).to_pandas()
    return frame


def ok_ids(folder: str | Path) -> NDArray[np.int64]:
    """Ids of the images that are there, in the manifest's order."""
    frame = status_frame(folder)
    return np.asarray(frame.loc[frame["status"] == "ok", "image_id"], np.int64)


def images_by_id(folder: str | Path, image_ids: NDArray[np.int64]) -> dict[int, bytes]:
    """Stored JPEGs of some images; those without one are left out."""
    found: dict[int, bytes] = {}
    for path in shard_paths(folder):
        ids = _read(path, ["image_id"])["image_id"].to_numpy()
        if np.isin(ids, image_ids).any():
            jpegs = read_jpegs(path)
            for row in np.flatnonzero(np.isin(jpegs.image_id, image_ids)):
                if (data := jpegs.jpeg[row]) is not None:
                    found[int(jpegs.image_id[row])] = bytes(data)
    return found


def read_overview(path: str | Path) -> Overview | None:
    """What a shard holds, or None when there is no whole shard, or one of an older form."""
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(["image_id", "status"])
            metadata = file.schema_arrow.metadata or {}
    except (OSError, pa.ArrowInvalid, KeyError):
        return None
    keys = metadata.get(_KEYS, b"").decode("ascii", "replace")
    if len(keys) != KEY_LENGTH * len(table) or not metadata.get(_BYTES, b"").isdigit():
        return None
    return Overview(
        table["image_id"].to_pylist(),
        table["status"].to_pylist(),
        [keys[start : start + KEY_LENGTH] for start in range(0, len(keys), KEY_LENGTH)],
        int(metadata[_BYTES]),
    )


def write_shard(path: Path, shard: Shard, keys: Sequence[str]) -> None:
    """Write a shard, what each row was made from and a digest of both: the same rows and keys give the same bytes."""
    stored = sum(len(data) for data in shard.bytes if data is not None)
    table = pa.table(
        [shard.image_id, pa.array(shard.bytes, pa.binary()), shard.status, shard.width, shard.height], schema=SCHEMA
    )
    said = {_KEYS: "".join(keys).encode("ascii"), _BYTES: str(stored).encode()}
    table = table.replace_schema_metadata(said | {_DIGEST: _digest(table, said)})
    with replacing(path) as temporary:
        pq.write_table(
            table, temporary, compression="none", use_dictionary=["status"], write_statistics=["image_id", "status"]
        )


def is_damaged(path: str | Path) -> bool:
    """Whether a shard can't be read, or holds something else than was written; of one without a digest: the former."""
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            table, said = file.read(SCHEMA.names), file.schema_arrow.metadata or {}
            written = said.get(_DIGEST)
            return written is not None and written != _digest(table, said)
    except (OSError, pa.ArrowException, KeyError, MemoryError):
        return True


def _digest(table: pa.Table, said: Mapping[bytes, bytes]) -> bytes:
    """SHA-256 in hex of all rows and of what is said of them, however Arrow cuts the columns."""
    digest = hashlib.sha256(said.get(_KEYS, b"") + b" " + said.get(_BYTES, b""))
    for name in SCHEMA.names:
        column = table[name]
        if pa.types.is_integer(column.type):
            digest.update(np.ascontiguousarray(column.to_numpy()).tobytes())
            continue
        digest.update(pc.fill_null(pc.binary_length(column), -1).to_numpy().astype(np.int64).tobytes())
        for chunk in column.chunks:
            _, offsets, data = chunk.buffers()
            if data is not None and len(chunk):
                ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
                digest.update(memoryview(data)[int(ends[0]) : int(ends[-1])])
    return digest.hexdigest().encode()


def _read(path: str | Path, columns: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            return file.read(columns)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"{path}: not a complete shard ({error}); run the download again") from None
