"""Ingest at the competition's full size: seconds and peak memory of the real command on files in the published form.

Writes train.json (1,014,544 images), validation.json (9,897) and test.json (39,706) as tests/formats/published.py knows
the published files (indented, imageId and labelId, ids as texts), with label map and sample submission, and again as
image_id and label_id; runs `labelstack stage ingest` on each in a process of its own, compares the manifests byte by
byte, reads the train manifest back and makes its label matrix.

    python benchmarks/ingest.py [--scale 1.0] [--page] [--seed 0] [--keep FOLDER]

About a minute and 1 GB of disk at full size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from formats.published import (  # noqa: E402
    N_LABELS,
    PAGE_SIZES,
    SIZES,
    SPELLINGS,
    label_map,
    sample_submission,
    write_published,
)

DATA = "data/full"
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


class Used(NamedTuple):
    """What a command needed: seconds by the clock and of the processors, peak memory in bytes."""

    wall: float
    cpu: float
    peak: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument(
        "--page", action="store_true", help="validation and test as large as the competition's page says"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it (and existing data sets) alone")
    arguments = parser.parse_args()
    full = PAGE_SIZES if arguments.page else SIZES
    sizes = {split: max(1, round(n * arguments.scale)) for split, n in full.items()}
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments.keep or Path(temporary), sizes, arguments.seed)


def measure(root: Path, sizes: dict[str, int], seed: int) -> None:
    start = time.perf_counter()
    for spelling in SPELLINGS:
        prepare(root / spelling, sizes, spelling, seed)
    generated = time.perf_counter() - start
    used = {spelling: ingest(root / spelling) for spelling in SPELLINGS}
    published, page = (root / spelling / "data/manifest" for spelling in SPELLINGS)
    names = sorted(file.name for file in published.iterdir())
    same = all((published / name).read_bytes() == (page / name).read_bytes() for name in names)
    output = subprocess.run(
        [sys.executable, "-c", _READ_BACK], cwd=root / "camel", check=True, capture_output=True, text=True
    )
    back = json.loads(output.stdout)
    counts = json.loads((root / "camel/metrics/ingest.json").read_text())
    assert counts["images"] == sizes, "the manifests have another number of images"
    size = sum((root / "camel" / DATA / f"{split}.json").stat().st_size for split in sizes)
    print(f"""
{sum(sizes.values()):,} images, {back["ones"]:,} labels on the train split, {size / 1e6:,.0f} MB of JSON, \
{os.cpu_count()} cores
  generated (not part of the ingest)      {generated:8.1f} s
  labelstack stage ingest                 imageId  image_id
    wall                                 {_row(u.wall for u in used.values())} s      (limit 15 s)
    CPU                                  {_row(u.cpu for u in used.values())} s
    peak memory                          {_row(u.peak / 1e9 for u in used.values())} GB     (limit 1.3 GB)
  manifests, byte by byte                 {"the same" if same else "DIFFERENT"}: {", ".join(names)}
  manifests on disk                       {sum((published / name).stat().st_size for name in names) / 1e6:8.1f} MB
  URLs of validation that test has too    {counts["shared"]["urls"]["validation_test"]:8,}
  read_manifest(train)                    {back["read"]:8.1f} s
  label_matrix(train) {back["shape"][0]:>9,} × {back["shape"][1]}     {back["matrix"]:8.1f} s
  reading both, peak memory               {back["peak"] * 1024 / 1e9:8.2f} GB""")


def prepare(root: Path, sizes: dict[str, int], spelling: str, seed: int) -> None:
    """A folder with the data set and a params.yaml that names it."""
    data = root / DATA
    if not (data / "sample_submission.csv").exists():
        write_published(data, sizes, spelling, seed)
        (data / "labels.csv").write_bytes(label_map())
        (data / "sample_submission.csv").write_text(sample_submission(list(range(1, sizes["test"] + 1))))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["dataset"] |= {"root": DATA, "label_ids": [1, N_LABELS], "answers": None}
    params["folds"]["k"] = 2
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def ingest(root: Path) -> Used:
    """Run the command."""
    start = time.perf_counter()
    process = subprocess.Popen([Path(sys.executable).parent / "labelstack", "stage", "ingest"], cwd=root)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return Used(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _row(values: Iterable[float]) -> str:
    return " ".join(f"{value:9.2f}" for value in values)


if __name__ == "__main__":
    main()
