"""Fixtures of the images room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from images.http2_server import make_certificate
from images.server import Server, jpeg
from labelstack.images.fetching import web
from labelstack.images.shards.fill import download_split
from labelstack.params.images import ImagesSection


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def params(server: Server) -> ImagesSection:
    return ImagesSection(
        allow_hosts=[server.host],
        timeout_s=5,
        retries=0,
        max_bytes=20_000,
        concurrency=4,
        shard_rows=10,
        store_size=24,
    )


@pytest.fixture
def make_shards(tmp_path: Path) -> Callable[..., Path]:
    """Shards of ``n`` local pictures; ids count from 1, and ids in ``absent`` have no file."""

    def make(n: int, *, shard_rows: int = 10, absent: tuple[int, ...] = ()) -> Path:
        root = tmp_path / "source"
        root.mkdir(exist_ok=True)
        for image_id in set(range(1, n + 1)) - set(absent):
            (root / f"{image_id}.jpg").write_bytes(jpeg(image_id))
        manifest = pd.DataFrame({"image_id": np.arange(1, n + 1), "url": [[f"file:{i}.jpg"] for i in range(1, n + 1)]})
        out = tmp_path / "shards"
        download_split(manifest, out, ImagesSection(shard_rows=shard_rows, store_size=32), root)
        return out

    return make


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    paths = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(paths[0]))
    web._context.cache_clear()
    yield paths
    web._context.cache_clear()
