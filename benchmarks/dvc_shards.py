"""What DVC takes for images in shards against one file per image: add, status, push to an S3 server, pull.

    python benchmarks/dvc_shards.py [--images 20000] [--shard-rows 1000] [--rounds 1] [--cap 1800] [--folder FOLDER]

Both sides hold the same JPEGs of about 25 kB, all of them different. Each command is the real `dvc`, start included.
The S3 server is moto over HTTP on the loopback address, a fresh process for each side. 20,000 images take a quarter of
an hour, nearly all of it for push and pull of single files, 2.5 GB of disk in a temporary folder that is removed at the
end, and 1 GB of memory; 2,000 images take one and a half minutes. A command that takes longer than --cap seconds is
ended and shown as "> cap"; nothing is extrapolated.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelstack.images.shards.shard_files import SCHEMA

BIN = Path(sys.executable).parent
STEPS = ("add", "status", "push", "pull")
BASES = 50
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def base_pictures(seed: int = 0) -> list[bytes]:
    """JPEGs of about 25 kB: smoothed noise with a fine grain, 256 × 341 pixels."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(BASES):
        coarse = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (341, 256), interpolation=cv2.INTER_CUBIC)
        grained = np.clip(coarse + rng.normal(0, 7, coarse.shape), 0, 255).astype(np.uint8)
        pictures.append(cv2.imencode(".jpg", grained, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())
    return pictures


def images(n: int) -> Iterator[bytes]:
    """``n`` different JPEGs: the base pictures in turn, each with a comment of its own behind the start marker."""
    pictures = base_pictures()
    for number in range(n):
        picture, comment = pictures[number % BASES], f"image {number:09d}".encode()
        yield picture[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + picture[2:]


def write_files(folder: Path, n: int) -> None:
    folder.mkdir()
    for number, data in enumerate(images(n)):
        (folder / f"{number:07d}.jpg").write_bytes(data)


def write_shards(folder: Path, n: int, rows: int) -> None:
    folder.mkdir()
    stream = images(n)
    for start in range(0, n, rows):
        data = [next(stream) for _ in range(min(rows, n - start))]
        ids = np.arange(start, start + len(data))
        sides = [np.full(len(data), side, np.int32) for side in (341, 256)]
        table = pa.table([ids, data, ["ok"] * len(data), *sides], schema=SCHEMA)
        pq.write_table(table, folder / f"shard-{start // rows:05d}.parquet", compression="none")


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [BIN / "moto_server", "-H", "127.0.0.1", "-p", str(port)], stdout=stream, stderr=stream
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="bucket")
        yield url
    finally:
        server.kill()
        server.wait()


def timed(folder: Path, cap: float, *arguments: str) -> float | None:
    """Seconds of a dvc command, or None when it was ended at the cap."""
    start = time.monotonic()
    try:
        done = subprocess.run([BIN / "dvc", *arguments], cwd=folder, capture_output=True, text=True, timeout=cap)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        raise SystemExit(f"dvc {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return time.monotonic() - start


def measure(root: Path, cap: float, n: int, rows: int | None) -> dict[str, float | None]:
    """Seconds of every step for one side: shards of ``rows`` images, or (None) one file per image."""
    origin, clone = root / "origin", root / "clone"
    origin.mkdir(parents=True)
    clone.mkdir()
    if rows is None:
        write_files(origin / "images", n)
    else:
        write_shards(origin / "images", n, rows)
    seconds: dict[str, float | None] = dict.fromkeys(STEPS)
    with s3_server(root / "moto.log") as url:
        timed(origin, cap, "init", "--no-scm", "-q")
        timed(origin, cap, "remote", "add", "-d", "storage", "s3://bucket/dvc")
        timed(origin, cap, "remote", "modify", "storage", "endpointurl", url)
        for step, arguments in (("add", ["add", "-q", "images"]), ("status", ["status"]), ("push", ["push", "-q"])):
            seconds[step] = timed(origin, cap, *arguments)
            shown(rows, step, seconds[step])
            if seconds[step] is None:
                return seconds
        shutil.copytree(origin / ".dvc", clone / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
        shutil.copy(origin / "images.dvc", clone / "images.dvc")
        seconds["pull"] = timed(clone, cap, "pull", "-q")
        shown(rows, "pull", seconds["pull"])
    if seconds["pull"] is not None:
        check_same(origin / "images", clone / "images")
    return seconds


def check_same(left: Path, right: Path) -> None:
    files = sorted(left.iterdir())
    same = [file.name for file in files] == sorted(file.name for file in right.iterdir())
    if not same or any(
        file.read_bytes() != (right / file.name).read_bytes() for file in files[:: len(files) // 20 + 1]
    ):
        raise SystemExit(f"{right}: not what was pushed")


def shown(rows: int | None, step: str, seconds: float | None) -> None:
    took = "ended at the cap" if seconds is None else f"{seconds:.1f} s"
    print(f"  {'files' if rows is None else 'shards'}: dvc {step} {took}", file=sys.stderr, flush=True)


def best(runs: list[dict[str, float | None]], step: str) -> float | None:
    """The shortest of the rounds."""
    return min((run[step] for run in runs if run[step] is not None), default=None)  # type: ignore[type-var]


def cells(shards: float | None, files: float | None, cap: float) -> tuple[str, str, str]:
    if shards is None:
        return f"> {cap:.0f}", "-" if files is None else f"{files:.1f}", "-"
    if files is None:
        return f"{shards:.1f}", f"> {cap:.0f}", f"> {cap / shards:.1f}"
    return f"{shards:.1f}", f"{files:.1f}", f"{files / shards:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--shard-rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1, help="both sides in turn, the shortest time of each counts")
    parser.add_argument("--cap", type=float, default=1800, help="seconds after which a command is ended")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    runs: dict[int | None, list[dict[str, float | None]]] = {options.shard_rows: [], None: []}
    with tempfile.TemporaryDirectory(prefix="dvc_shards.", dir=options.folder) as folder:
        os.environ.update(CREDENTIALS)
        for kind in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
            os.environ[f"DVC_{kind}_DIR"] = str(Path(folder) / kind.lower())
        os.environ["DVC_NO_ANALYTICS"] = "1"
        for _ in range(options.rounds):
            for rows, done in runs.items():
                side = Path(folder) / "side"
                done.append(measure(side, options.cap, options.images, rows))
                shutil.rmtree(side)
    mean = np.mean([len(data) for data in images(BASES)])
    print(f"{options.images:,} images, {mean:,.0f} bytes each; {options.shard_rows:,} in a shard; seconds")
    print(f"{'dvc':8} {'shards':>9} {'files':>9} {'files / shards':>15}")
    for step in STEPS:
        shards, files, ratio = cells(best(runs[options.shard_rows], step), best(runs[None], step), options.cap)
        print(f"{step:8} {shards:>9} {files:>9} {ratio:>15}")


if __name__ == "__main__":
    main()
