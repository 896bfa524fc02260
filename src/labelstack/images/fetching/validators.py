"""ETag and Last-Modified of stored images, in files beside the shards: nothing but a refresh depends on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from labelstack.images.fetching.fetch import Validator
from labelstack.support.storage import replacing

_NAMES = ["image_id", "content", "url", "etag", "last_modified"]


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
        columns = pq.read_table(path, columns=_NAMES).to_pydict()
    except (OSError, pa.ArrowInvalid, KeyError):
        return {}
    rows = zip(*(columns[name] for name in _NAMES), strict=True)
    return {image_id: Known(content, Validator(*said)) for image_id, content, *said in rows}


def write_validators(path: Path, known: Mapping[int, Known]) -> None:
    """Write versions by image id."""
    rows = [(image_id, each.content, *astuple(each.validator)) for image_id, each in sorted(known.items())]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in _NAMES]
    kinds = [pa.int64()] + [pa.string()] * 4
    with replacing(path) as temporary:
        table = pa.table([pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names=_NAMES)
        pq.write_table(table, temporary, compression="zstd")
