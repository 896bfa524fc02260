"""`images`: download, storage and decoding."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from labelstack.params.rules import Host, HttpAddress
from labelstack.params.section import Section

Damaged = Literal["refuse", "keep"]
Verify = Literal["none", "sample", "all"]


class ImagesSection(Section):
    """Download, storage and decoding."""

    store_size: int = Field(256, ge=16, le=4096)
    jpeg_quality: int = Field(90, ge=1, le=100)
    damaged: Damaged = "refuse"
    shard_rows: int = Field(1000, ge=1, le=100_000)
    verify: Verify = "sample"
    workers: int | None = Field(None, ge=1, le=256)
    concurrency: int = Field(16, ge=1, le=512)
    concurrency_per_host: int = Field(8, ge=1, le=512)
    http2: bool = True
    connect_timeout_s: float = Field(5, gt=0, le=600)
    first_byte_timeout_s: float = Field(10, gt=0, le=600)
    timeout_s: float = Field(20, gt=0, le=600)
    retries: int = Field(3, ge=0, le=20)
    max_failures: float = Field(0.5, ge=0, le=1)
    max_bytes: int = Field(20_000_000, ge=1000)
    max_decode_work: int = Field(1_000_000_000, ge=1_000_000, le=10**12)
    max_decode_bytes: int = Field(1_500_000_000, ge=10_000_000, le=10**11)
    allow_schemes: list[Literal["http", "https", "s3", "file"]] = ["http", "https", "s3", "file"]
    allow_hosts: list[Host] = []
    s3_endpoint_url: HttpAddress | None = None
