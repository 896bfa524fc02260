"""Reading and checking iMaterialist 2019's instances at their number: python benchmarks/instances_ingest.py

A generated train.csv of about 1.5 kB of runs a row, and photos of a few sizes under many names. Seconds are of the
clock, and of all processors together; the peak of memory is of the reading process alone.
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
from pathlib import Path

import cv2
import numpy as np

from labelstack.formats.imaterialist2019 import FORMAT
from labelstack.masks.instance_table import write_instances
from labelstack.masks.run_lengths import encode
from labelstack.masks.run_text import write_runs

SIZES = [(1200, 800), (900, 900), (1600, 1066), (700, 500), (5214, 3676)]
SHARE = [0.4, 0.3, 0.2, 0.099, 0.001]


def blobs(height: int, width: int, n: int, rng: np.random.Generator) -> list[str]:
    """Runs of round things with ragged rims."""
    texts = []
    for _ in range(n):
        mask = np.zeros((height, width), np.uint8)
        reach = rng.uniform(0.02, 0.08) * width
        turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        outline = rng.uniform(0.2, 0.8, 2) * [width, height]
        outline = outline + np.stack([np.cos(turns), np.sin(turns)], axis=1) * reach * rng.uniform(0.8, 1.2, (60, 1))
        cv2.fillPoly(mask, [outline.astype(np.int32)], 1)
        texts += write_runs(encode(mask[None]))
    return texts


def generate(root: Path, rows: int, photos: int) -> None:
    """All files of a data set."""
    rng = np.random.default_rng(0)
    pool = [blobs(height, width, 60, rng) for height, width in SIZES]
    for folder in ("train", "test"):
        (root / folder).mkdir(parents=True)
    for number, (height, width) in enumerate(SIZES):
        cv2.imwrite(str(root / f"{number}.jpg"), np.zeros((height, width, 3), np.uint8))
    size = rng.choice(len(SIZES), photos, p=SHARE)
    names = [f"{number:032x}.jpg" for number in rng.permutation(photos).tolist()]
    for name, kind in zip(names, size.tolist(), strict=True):
        os.link(root / f"{kind}.jpg", root / "train" / name)
    os.link(root / "0.jpg", root / "test/0.jpg")
    (root / "sample_submission.csv").write_text("ImageId,EncodedPixels,ClassId\n0.jpg,1 1,23\n")
    content = {
        key: [{"id": i, "name": f"{key} {i}", "supercategory": "s"} for i in range(n)]
        for key, n in (("categories", 46), ("attributes", 92))
    }
    (root / "label_descriptions.json").write_text(json.dumps(content))
    of = np.sort(np.concatenate([np.arange(photos), rng.integers(0, photos, rows - photos)]))
    category, which = rng.integers(0, 46, rows), rng.integers(0, 60, rows)
    worn = rng.random(rows) < 0.0346
    with (root / "train.csv").open("w") as file:
        file.write("ImageId,EncodedPixels,Height,Width,ClassId\n")
        for photo, label, text, more in zip(of.tolist(), category.tolist(), which.tolist(), worn.tolist(), strict=True):
            kind = int(size[photo])
            height, width = SIZES[kind]
            attributes = f"_{label}_{label + 40}" if more else ""
            file.write(f"{names[photo]},{pool[kind][text]},{height},{width},{label}{attributes}\n")


def read(root: Path) -> None:
    """Print what reading took."""
    start, before = time.perf_counter(), os.times()
    data = FORMAT.read(root)
    middle = time.perf_counter()
    write_instances(root / "instances.parquet", data.instances)
    end, after = time.perf_counter(), os.times()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    file, table = (root / name for name in ("train.csv", "instances.parquet"))
    print(
        f"{data.counts['instances']['train']:,} rows of {data.counts['images']['train']:,} photos, "
        f"{file.stat().st_size / 2**20:,.0f} MiB: read and checked in {middle - start:.1f} s, table of "
        f"{table.stat().st_size / 2**20:,.0f} MiB written in {end - middle:.1f} s "
        f"({sum(after[:2]) - sum(before[:2]):.1f} s of processors), peak {peak:.2f} GiB"
    )


def main() -> None:
    """Generate, then read in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=331_213)
    parser.add_argument("--photos", type=int, default=45_195)
    parser.add_argument("--read", type=Path, help="read what lies there; generate nothing")
    given = parser.parse_args()
    if given.read:
        read(given.read)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        generate(root, given.rows, given.photos)
        subprocess.run([sys.executable, __file__, "--read", str(root)], check=True)


if __name__ == "__main__":
    main()
