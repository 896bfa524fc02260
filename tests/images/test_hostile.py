"""Every fault at once, in processes that are killed and go on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from images.hostile import KINDS, Hostile
from labelstack.images.pixels.decode import to_stored_jpeg
from labelstack.images.shards.fill import download_split
from labelstack.images.shards.shard_files import read_shard, shard_paths
from labelstack.params.images import ImagesSection

IMAGES = 300
_CHILD = """
import json, sys, pandas as pd
from pathlib import Path
from labelstack.images.shards.fill import download_split
from labelstack.params.images import ImagesSection
manifest, out, params, root = sys.argv[1:]
print(json.dumps(download_split(pd.read_json(manifest), Path(out), ImagesSection(**json.loads(params)), Path(root))))
"""


def test_every_image_is_accounted_for_and_kills_change_nothing(tmp_path: Path) -> None:
    with Hostile() as server:
        cases = server.cases(IMAGES, tmp_path / "root", slow_every=5)
        urls = [case[0] for case in cases]
        manifest = pd.DataFrame({"image_id": range(1, IMAGES + 1), "url": urls})
        manifest.to_json(tmp_path / "manifest.json")
        params = ImagesSection(
            allow_hosts=[server.host],
            shard_rows=40,
            store_size=24,
            concurrency=64,
            concurrency_per_host=64,
            workers=2,
            first_byte_timeout_s=1.5,
            timeout_s=2,
            retries=1,
            max_bytes=300_000,
            max_failures=1,
        )
        alone = params.model_copy(update={"workers": 1})
        summary = download_split(manifest, tmp_path / "whole", alone, tmp_path / "root")
        out = tmp_path / "killed"
        command = [sys.executable, "-c", _CHILD, tmp_path / "manifest.json", out, params.model_dump_json()]
        moment = random.Random(5)
        for wanted in (1, 4):
            process = subprocess.Popen([*command, tmp_path / "root"])
            deadline = time.monotonic() + 60
            while len(shard_paths(out)) < wanted and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(moment.uniform(0, 0.2))
            process.kill()
            process.wait()
        resumed = subprocess.run([*command, tmp_path / "root"], check=True, capture_output=True, text=True)

    assert set(KINDS.values()) <= {case[1] for case in cases}
    rows = [row for path in shard_paths(tmp_path / "whole") for row in _rows(path)]
    assert [row[1] for row in rows] == [case[1] for case in cases]
    for (image_id, status, data), (_, _, sent) in zip(rows, cases, strict=True):
        expected = None if sent is None else to_stored_jpeg(sent, 24, 90)[0]
        assert data == expected, (image_id, status)
    assert summary["status"] == Counter(case[1] for case in cases)
    assert json.loads(resumed.stdout) == summary
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()
    }


def _rows(path: Path) -> list[tuple[int, str, bytes | None]]:
    shard = read_shard(path)
    return list(zip(shard.image_id.tolist(), shard.status, shard.bytes, strict=True))
