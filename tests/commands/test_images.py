"""Commands that look at downloaded images and try some again, in a small workspace."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from images.server import Server
from labelstack.cli import app
from labelstack.commands import images
from labelstack.formats.manifest import write_manifest
from labelstack.stages import download, paths
from labelstack.support.errors import UserError

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def workspace(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train with a few faults and test without, both downloaded."""
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    params["images"] |= {"allow_hosts": [server.host], "retries": 0, "shard_rows": 4}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    paths_of = {"train": [f"img/{i}.jpg" for i in range(10)], "test": ["img/20.jpg", "img/21.jpg"]}
    paths_of["train"][5:7] = ["nowhere.jpg", "down.jpg"]
    for split, served in paths_of.items():
        rows: dict[str, Any] = {"image_id": range(1, len(served) + 1), "url": [[server.url(path)] for path in served]}
        rows["label_id"] = [[1]] * len(served) if split == "train" else None
        write_manifest(paths.manifest(split), pd.DataFrame(rows))
        download.run(split)
    return tmp_path


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["images", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_status_counts_every_split(workspace: Path, server: Server) -> None:
    table = command("status")
    rows = {line.split("│")[1].strip(): line for line in table.splitlines() if line.count("│") > 2}
    assert "8 (80.0%)" in rows["ok"]
    assert "2 (100.0%)" in rows["ok"]
    assert "1 (10.0%)" in rows["http_503"]
    assert "not downloaded" in rows["all"]
    assert f"train: 2 failures at {server.host}" in table
    assert "http_404" not in command("status", "test")


def test_retry_fetches_and_rewrites_only_what_was_asked_for(
    workspace: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in Path("data/images").rglob("*.parquet")}
    server.hits.clear()
    text = command("retry", "--status", "timeout,http_5xx")
    assert dict(server.hits) == {"down.jpg": 1}
    assert "train: asked for 1 images: 1 http_503; 0 shards rewritten" in text
    assert "dvc" not in text

    monkeypatch.setattr(server, "mended", True)
    server.hits.clear()
    text = command("retry", "train", "--status", "http_503,http_4xx")
    assert dict(server.hits) == {"nowhere.jpg": 1, "down.jpg": 1}
    assert "train: asked for 2 images: 1 http_404, 1 ok; 1 shards rewritten" in text
    assert "dvc commit -f download@train" in text
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"shard-00001.parquet"}
    assert json.loads(Path("metrics/download/train.json").read_text())["status"] == {"http_404": 1, "ok": 9}


def test_retry_needs_a_finished_download_and_known_statuses(workspace: Path) -> None:
    with pytest.raises(UserError, match="http_9xx: no status"):
        images.retry("train", "http_9xx,ok", refresh=False)
    with pytest.raises(UserError, match="nothing to do"):
        images.retry("train", " ", refresh=False)
    next(Path("data/images/train").glob("*1.parquet")).unlink()
    with pytest.raises(UserError, match="run `labelstack stage download` first"):
        images.retry("train", "timeout", refresh=False)


def test_refresh_asks_whether_images_have_changed(workspace: Path, server: Server) -> None:
    text = command("retry", "--refresh")
    assert "train: asked for 8 images: 8 unchanged; 0 shards rewritten" in text
    assert "test: asked for 2 images: 2 unchanged; 0 shards rewritten" in text


def test_show_writes_the_image_and_tells_about_it(workspace: Path, server: Server) -> None:
    text = command("show", "3", "--split", "train")
    facts = dict(line.strip().split(": ", 1) for line in text.splitlines())
    assert facts["status"] == "ok"
    assert facts["url"] == server.url("img/2.jpg")
    assert Image.open(facts["file"]).size == (40, 30)
    assert facts["size"].startswith("40 × 30 pixels")
    text = command("show", "6")
    assert "status: http_404" in text
    assert "file:" not in text
    command("show", "9", "--to", "here.jpg")
    assert Image.open(io.BytesIO(Path("here.jpg").read_bytes())).size == (40, 30)


def test_show_says_which_image_is_meant(workspace: Path) -> None:
    with pytest.raises(UserError, match="in train, test; choose one"):
        images.show("1", None, None)
    with pytest.raises(UserError, match="77: no such image"):
        images.show("77", None, None)
    with pytest.raises(UserError, match="no such split"):
        images.show("1", "holdout", None)
    for place in (".", "/proc/one.jpg", "params.yaml/one.jpg"):
        with pytest.raises(UserError, match=f"^--to {place}: "):
            images.show("1", "train", Path(place))


def test_a_download_with_too_many_failures_fails_and_keeps_its_shards(workspace: Path, server: Server) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["images"]["max_failures"] = 0.1
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(UserError, match=r"20\.0% of 10 images failed, more than images\.max_failures = 0\.1"):
        download.run("train")
    assert len(list(Path("data/images/train").glob("*.parquet"))) == 3
