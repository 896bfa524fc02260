"""ETag and Last-Modified of stored images, in files beside the shards: nothing but a refresh depends on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from labelstack.images.fetching.fetch import Validator
from labelstack.support.storage import replacing

_TEXTS = ("content", "url", "etag", "last_modified")
_SCHEMA = pa.schema([("image_id", pa.int64()), *((name, pa.string()) for name in _TEXTS)])


@dataclass(frozen=True)
class Known:
    """A version of an image: digest of the stored bytes it belongs to, and what the server said about it."""

    content: str
    validator: Validator


def content_digest(data: bytes) -> str:
    """Identity of stored bytes."""
    return hashlib.blake2b(data, digest_size=9).hexdigest()


def read_validators(path: Path | None) -> dict[int, Known]:
    """Versions by image id; none when the file is absent or unreadable, which costs a refresh some traffic."""
    if path is None:
        return {}
    try:
        rows = pq.read_table(path, columns=_SCHEMA.names).to_pylist()
        return {row.pop("image_id"): Known(row.pop("content"), Validator(**row)) for row in rows}
    except (OSError, pa.ArrowInvalid, KeyError):
        return {}


def write_validators(path: Path, known: Mapping[int, Known]) -> None:
    """Write versions by image id."""
    rows = [{"image_id": key, "content": one.content, **asdict(one.validator)} for key, one in sorted(known.items())]
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), temporary, compression="zstd")
