"""Ingest at the competition's full size: seconds and peak memory of the real command on a generated data set.

Writes train.json (1,014,544 images), validation.json (10,586) and test.json (42,590) in the competition's format, with
228 long-tailed labels, ids and labels as strings of digits, ``url`` as a list or a plain string; then runs
``labelstack ingest`` on them in a process of its own, reads the train manifest back and makes its label matrix.

    python benchmarks/ingest.py [--scale 1.0] [--seed 0] [--keep FOLDER]

About a minute and a half and 1 GB of disk at full size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

SIZES = {"train": 1_014_544, "validation": 10_586, "test": 42_590}
N_LABELS = 228
PIECE = 50_000
HOSTS = ("contestimg.example-shop.com", "img.example.net", "cdn.fashion.example.org", "static.example-store.co")

_READ_BACK = """
import json, resource, sys, time
from labelstack.formats.manifest import label_matrix, read_manifest
import pandas as pd
start = time.perf_counter()
manifest = read_manifest("data/manifest/train.parquet")
read = time.perf_counter() - start
columns = pd.read_parquet("data/manifest/labels.parquet")["label_id"].to_numpy()
start = time.perf_counter()
Y = label_matrix(manifest["label_id"].tolist(), columns)
matrix = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"read": read, "matrix": matrix, "shape": Y.shape, "ones": int(Y.sum()), "peak": peak}))
"""


def write_dataset(root: Path, scale: float = 1.0, seed: int = 0) -> None:
    """Write the three files, piece by piece; same scale and seed, same bytes."""
    root.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for split, size in SIZES.items():
        n = max(1, round(size * scale))
        with (root / f"{split}.json").open("w", encoding="ascii") as file:
            file.write('{"info": {"year": 2018, "version": "1.0"}, "images": [')
            file.writelines(_joined(_images(random, n)))
            if split != "test":
                file.write('], "annotations": [')
                file.writelines(_joined(_annotations(random, n)))
            file.write("]}")


def _joined(pieces: Iterator[list[str]]) -> Iterator[str]:
    for number, piece in enumerate(pieces):
        yield (", " if number else "") + ", ".join(piece)


def _images(random: np.random.Generator, n: int) -> Iterator[list[str]]:
    for start in range(0, n, PIECE):
        stop = min(n, start + PIECE)
        tokens = random.bytes(24 * (stop - start)).hex()
        host = random.integers(len(HOSTS), size=stop - start).tolist()
        plain = (random.random(stop - start) < 0.3).tolist()
        piece = []
        for i in range(stop - start):
            token = tokens[48 * i : 48 * i + 48]
            url = f'"https://{HOSTS[host[i]]}/rs_{token[:6]}/{token[6:]}.jpg"'
            piece.append(f'{{"url": {url if plain[i] else f"[{url}]"}, "image_id": "{start + i + 1}"}}')
        yield piece


def _annotations(random: np.random.Generator, n: int) -> Iterator[list[str]]:
    """One to fourteen labels an image, five or six in the mean; the commonest label is on a third of the images."""
    weight = 1 / (np.arange(N_LABELS) + 6) ** 1.2
    edges = np.cumsum(weight / weight.sum())
    names = [f'"{label}"' for label in random.permutation(N_LABELS) + 1]
    for start in range(0, n, PIECE):
        stop = min(n, start + PIECE)
        ends = np.cumsum(1 + random.binomial(13, 0.4, stop - start)).tolist()
        drawn = np.minimum(np.searchsorted(edges, random.random(ends[-1])), N_LABELS - 1).tolist()
        begins = [0, *ends[:-1]]
        yield [
            f'{{"label_id": [{", ".join(names[k] for k in dict.fromkeys(drawn[a:b]))}], "image_id": "{start + i + 1}"}}'
            for i, (a, b) in enumerate(zip(begins, ends, strict=True))
        ]


def params_for(root: Path) -> None:
    """The default params.yaml with this data set."""
    params = yaml.safe_load((Path(__file__).parent.parent / "params.yaml").read_text())
    params["dataset"] |= {"root": "data/full", "label_ids": [1, N_LABELS], "answers": None}
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it (and an existing data set) alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary)
        measure(root, arguments.scale, arguments.seed)


def measure(root: Path, scale: float, seed: int) -> None:
    files = [root / "data/full" / f"{split}.json" for split in SIZES]
    start = time.perf_counter()
    if not all(file.exists() for file in files):
        write_dataset(root / "data/full", scale, seed)
    generated = time.perf_counter() - start
    params_for(root)
    start = time.perf_counter()
    subprocess.run([Path(sys.executable).parent / "labelstack", "ingest"], cwd=root, check=True)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run([sys.executable, "-c", _READ_BACK], cwd=root, check=True, capture_output=True, text=True)
    back = json.loads(output.stdout)
    counts = json.loads((root / "metrics/ingest.json").read_text())
    assert counts["images"]["train"] == back["shape"][0], "the manifest has another number of images"
    size = sum(file.stat().st_size for file in files)
    manifests = sum(file.stat().st_size for file in (root / "data/manifest").iterdir())
    print(f"""
{sum(counts["images"].values()):,} images, {back["ones"]:,} labels on the train split, {size / 1e6:,.0f} MB of JSON, \
{os.cpu_count()} cores
  generated (not part of the ingest)     {generated:8.1f} s
  labelstack ingest, wall                {seconds:8.1f} s      (limit 60 s)
  labelstack ingest, CPU                 {used.ru_utime + used.ru_stime:8.1f} s
  labelstack ingest, peak memory         {used.ru_maxrss / 2**20:8.2f} GiB    (limit 2 GB = 1.86 GiB)
  manifests on disk                      {manifests / 1e6:8.1f} MB
  read_manifest(train)                   {back["read"]:8.1f} s
  label_matrix(train) {back["shape"][0]:>9,} × {back["shape"][1]}    {back["matrix"]:8.1f} s
  reading both, peak memory              {back["peak"] / 2**20:8.2f} GiB""")


if __name__ == "__main__":
    main()
