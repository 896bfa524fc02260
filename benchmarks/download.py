"""Measure the download: speed and memory beside img2dataset, or correctness under every fault with kills.

    python benchmarks/download.py [--img2dataset PYTHON]    about 4 minutes on two cores; without PYTHON: only ours
    python benchmarks/download.py --hostile                 about 6 minutes on two cores

The first fetches 20,000 JPEGs of 400 × 533 pixels from a server on loopback that answers after 20 ms, and stores them
with a short side of 256 pixels at quality 90 in parquet files of 1,000; both programs run with two processes and 64
requests at once, three times in turn, and the medians count. PYTHON is the interpreter of an environment with
img2dataset. The second sends 10,000 requests with every fault in the mix, kills the download with -9 at five random
moments, lets it go on each time, and compares the shards with those of an undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from images.hostile import Hostile  # noqa: E402
from labelstack.images.pixels.decode import to_stored_jpeg  # noqa: E402
from labelstack.images.shards.shard_files import read_shard, shard_paths  # noqa: E402
from labelstack.params.images import ImagesSection  # noqa: E402

OURS = """
import json, sys
import pandas as pd
from pathlib import Path
from labelstack.images.shards.fill import download_split
from labelstack.params.images import ImagesSection
manifest, out, params, root = sys.argv[1:]
summary = download_split(pd.read_parquet(manifest), Path(out), ImagesSection(**json.loads(params)), Path(root))
print(json.dumps(summary))
"""
THEIRS = """
import sys
import img2dataset
if __name__ == "__main__":
    url_list, folder, processes, threads, rows = sys.argv[1:]
    img2dataset.download(
        url_list=url_list, output_folder=folder, input_format="parquet", output_format="parquet", image_size=256,
        resize_mode="keep_ratio", resize_only_if_bigger=True, encode_quality=90, skip_reencode=True,
        processes_count=int(processes), thread_count=int(threads), number_sample_per_shard=int(rows), retries=3,
        timeout=20, compute_hash=None, extract_exif=False, disallowed_header_directives=[], enable_wandb=False,
    )
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--img2dataset", metavar="PYTHON")
    parser.add_argument("--images", type=int, help="instead of 20,000 or 10,000")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.02, metavar="SECONDS")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.hostile:
            hostile(Path(folder), args.images or 10_000)
        else:
            speed(Path(folder), args.images or 20_000, args.repeats, args.latency, args.img2dataset)


def speed(folder: Path, images: int, repeats: int, latency: float, theirs: str | None) -> None:
    with Hostile(latency) as server:
        sides = ["labelstack", "img2dataset"] if theirs else ["labelstack"]
        found: dict[tuple[str, int], list[dict[str, float]]] = {}
        for count, times in ((images // 10, 1), (images, repeats)):
            for _ in range(times):
                for side in sides:
                    done = (
                        _ours(folder, server, count) if side == "labelstack" else _theirs(folder, server, count, theirs)
                    )
                    found.setdefault((side, count), []).append(done)
                    print(f"  {side}, {count} images: {done['seconds']:.1f} s", flush=True)
        print(f"{'':12}{'images':>8}{'seconds':>9}{'images/s':>10}{'CPU ms/image':>14}{'peak MB':>9}{'shards MB':>11}")
        for (side, count), runs in found.items():
            seconds, cpu, peak, size = (
                statistics.median(run[name] for run in runs) for name in ("seconds", "cpu", "peak", "size")
            )
            row = f"{count:8}{seconds:9.1f}{count / seconds:10.0f}{cpu / count * 1000:14.2f}{peak:9.0f}{size:11.1f}"
            print(f"{side:12}{row}")
        if theirs:
            a, b = (statistics.median(run["seconds"] for run in found[side, images]) for side in sides)
            same = found["labelstack", images][0]["digest"] == found["img2dataset", images][0]["digest"]
            print(f"ratio {b / a:.2f}; the images of both are {'the same bytes' if same else 'NOT the same bytes'}")


def _ours(folder: Path, server: Hostile, images: int) -> dict[str, Any]:
    out = folder / "ours"
    shutil.rmtree(out, ignore_errors=True)
    urls = [[server.url(f"photo/{i}.jpg")] for i in range(images)]
    pd.DataFrame({"image_id": range(images), "url": urls}).to_parquet(folder / "manifest.parquet")
    params = ImagesSection(allow_hosts=[server.host], concurrency=64, concurrency_per_host=64, workers=2)
    command = [sys.executable, "-c", OURS, folder / "manifest.parquet", out, params.model_dump_json(), folder]
    measured = _measured(command)
    stored = {bytes(data or b"") for path in shard_paths(out) for data in read_shard(path).bytes}
    counts = json.loads(measured.pop("output").splitlines()[-1])
    assert counts["ok"] == images, counts
    return {**measured, "size": _size(out), "digest": stored}


def _theirs(folder: Path, server: Hostile, images: int, python: str | None) -> dict[str, Any]:
    out = folder / "theirs"
    shutil.rmtree(out, ignore_errors=True)
    urls = [server.url(f"photo/{i}.jpg") for i in range(images)]
    pd.DataFrame({"url": urls}).to_parquet(folder / "urls.parquet")
    (folder / "theirs.py").write_text(THEIRS)
    # the same directory for its script, so that its worker processes find it again
    measured = _measured([python, folder / "theirs.py", folder / "urls.parquet", out, "2", "32", "1000"])
    tables = [pd.read_parquet(path, columns=["jpg", "status"]) for path in sorted(out.glob("*.parquet"))]
    assert sum((table["status"] == "success").sum() for table in tables) == images
    return {**measured, "size": _size(out), "digest": {data for table in tables for data in table["jpg"]}}


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("*.parquet")) / 1e6


def _measured(command: list[Any]) -> dict[str, Any]:
    """Seconds, CPU seconds of all processes and the peak of their resident memory together, in MB."""
    before, started = os.times(), time.perf_counter()
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    peak = [0.0]

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], _tree_memory(process.pid))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    seconds, after = time.perf_counter() - started, os.times()
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with code {process.returncode}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": seconds, "cpu": cpu, "peak": peak[0], "output": output}


def _tree_memory(pid: int) -> float:
    """Resident memory of a process and its descendants without what they share, in MB."""
    total, todo = 0, [pid]
    while todo:
        process = todo.pop()
        try:
            for task in Path(f"/proc/{process}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += int(rollup.split("Pss:")[1].split()[0])
        except (OSError, IndexError):
            continue
    return total / 1024


def hostile(folder: Path, images: int) -> None:
    with Hostile() as server:
        cases = server.cases(images, folder / "root", slow_every=20)
        pd.DataFrame({"image_id": range(images), "url": [case[0] for case in cases]}).to_parquet(
            folder / "manifest.parquet"
        )
        params = ImagesSection(
            allow_hosts=[server.host],
            shard_rows=200,
            concurrency=64,
            concurrency_per_host=64,
            workers=2,
            first_byte_timeout_s=3,
            timeout_s=4,
            retries=2,
            max_bytes=300_000,
            max_failures=1,
        )

        def command(out: str) -> list[str]:
            parts = [sys.executable, "-c", OURS, folder / "manifest.parquet", folder / out, params.model_dump_json()]
            return [str(part) for part in (*parts, folder / "root")]

        started = time.perf_counter()
        whole = json.loads(subprocess.run(command("whole"), check=True, capture_output=True, text=True).stdout)
        seconds = time.perf_counter() - started
        print(f"undisturbed: {images} images in {seconds:.0f} s: {whole['status']}", flush=True)
        moment, everything = random.Random(2018), len(shard_paths(folder / "whole"))
        for kill in range(1, 6):
            process = subprocess.Popen(command("killed"))
            while len(shard_paths(folder / "killed")) < everything * kill // 7 and process.poll() is None:
                time.sleep(0.01)
            time.sleep(moment.uniform(0, 1))
            assert process.poll() is None, "the download ended before it could be killed"
            process.kill()
            process.wait()
            print(f"kill {kill}: at {len(shard_paths(folder / 'killed'))} of {everything} shards", flush=True)
        resumed = json.loads(subprocess.run(command("killed"), check=True, capture_output=True, text=True).stdout)
    _judge(folder, cases, whole, resumed)


def _judge(folder: Path, cases: list[tuple[list[str], str, bytes | None]], whole: dict[str, Any], resumed: Any) -> None:
    shards = [read_shard(path) for path in shard_paths(folder / "whole")]
    statuses = [status for shard in shards for status in shard.status]
    stored = [data for shard in shards for data in shard.bytes]
    expected = {(status, sent): sent and to_stored_jpeg(sent, 256, 90)[0] for _, status, sent in cases}
    wrong = sum(
        status != case[1] or data != expected[case[1], case[2]]
        for status, data, case in zip(statuses, stored, cases, strict=True)
    )
    names = {path.name for path in (folder / "whole").iterdir()}
    same = names == {path.name for path in (folder / "killed").iterdir()} and all(
        (folder / "whole" / name).read_bytes() == (folder / "killed" / name).read_bytes() for name in names
    )
    print(f"{'images':>30}: {len(cases)}, each with one status: {sum(whole['status'].values()) == len(cases)}")
    for status, count in sorted(Counter(case[1] for case in cases).items()):
        print(f"{status:>30}: {whole['status'].get(status, 0)} of {count}")
    print(f"{'wrong status or bytes':>30}: {wrong}")
    print(f"{'same after five kills':>30}: {same} ({len(names)} shards), counts the same: {resumed == whole}")
    if wrong or not same or resumed != whole:
        raise SystemExit("the download is not right")


if __name__ == "__main__":
    main()
