"""Peak memory and files of the stage that finds regions, few photos against many: python benchmarks/regions_memory.py

    python benchmarks/regions_memory.py [--photos 300 3000] [--side 512] [--distinct 24] [--out FOLDER]

Generated garments with masks, drawn at ``--side``, stand in the shards again and again under ids of their own; a small
U-Net that has seen eight of them for an epoch, one for each of two folds. What runs is the stage's own code, in a
process of its own for each number of photos: truth is painted and scored, regions are found and written. Memory is the
largest resident set of that process; files are all that it made, those of unfinished work too, which are removed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from labelstack.formats.imaterialist2019 import FORMAT
from labelstack.images.shards.shard_files import KEY_LENGTH, Shard, write_shard
from labelstack.masks.instance_table import write_instances
from labelstack.params import load_params
from labelstack.params.sample import SampleSection
from labelstack.sample import draw_instances

NAME, SEGMENTER, FOLDS, ROWS, TEST = "garments", "plain", 2, 100, 20
WRITTEN = ("data/regions", "data/work", "metrics")  # folders that the stage writes to
PARAMS: dict[str, Any] = {
    "dataset": {"format": "imaterialist2019", "root": "data/sample", "validation": 0.0},
    "base_models": list(range(FOLDS)),
    "folds": {"k": FOLDS},
    "models": {"wide": {"backbone": "small_cnn"}},
    "stackers": {"mean": {"kind": "mean"}},
    "segmenters": {
        SEGMENTER: {
            "backbone": "small_cnn",
            "options": {"filters": [8, 16, 32], "convolutions": 1},
            "decoder": {"filters": [16, 8], "middle": False},
            "phases": [{"epochs": 1, "image_size": 64, "batch_size": 4, "group_rates": [1, 1, 1]}],
        }
    },
    "regions": {NAME: {}},
}


def prepare(root: Path, n: int, side: int, distinct: int) -> None:
    """All that the stage reads, in a folder like a user's."""
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"regions": {NAME: {"size": side}}}))
    sample = SampleSection(n_train=max(distinct, 20), n_test=10, image_size=side)
    draw_instances(root / "data/sample", sample, 0)
    data = FORMAT.read(root / "data/sample", None, FOLDS)
    given = data.manifests["train"]
    jpegs = [(root / "data/sample/train" / name).read_bytes() for name in given["name"][:distinct]]
    drawn = {int(image_id): place for place, image_id in enumerate(given["image_id"][:distinct])}
    ids = np.arange(n, dtype=np.int64)
    for split, numbers in (("train", ids), ("validation", ids[:0]), ("test", ids[:TEST] + n)):
        folder = root / "data/images" / split
        folder.mkdir(parents=True)
        for number, start in enumerate(range(0, len(numbers), ROWS)):
            some = numbers[start : start + ROWS]
            sides = np.full(len(some), side, np.int32)
            shard = Shard(some, [jpegs[i % distinct] for i in some], ["ok"] * len(some), sides, sides)
            write_shard(folder / f"shard-{number:05d}.parquet", shard, ["k" * KEY_LENGTH] * len(some))
    assert data.instances is not None
    place = np.array([drawn.get(one, -1) for one in data.instances["image_id"].to_pylist()])
    of_photo = [data.instances.filter(pa.array(place == i)) for i in range(distinct)]
    parts = [
        rows.set_column(0, rows.schema.field(0), pa.array(np.full(len(rows), image_id, np.int64)))
        for image_id in ids.tolist()
        for rows in [of_photo[image_id % distinct]]
    ]
    write_instances(root / "data/manifest/instances.parquet", pa.concat_tables(parts))
    folds = pd.DataFrame({"image_id": ids, "fold": ids % FOLDS, "source": ""})
    folds.to_parquet(root / "data/photo_folds.parquet", index=False)


def train(root: Path) -> None:
    """A segmenter for each fold, the same."""
    from labelstack.segmentation.segmenter import Segmenter
    from labelstack.stages import paths
    from labelstack.stages.photo_maps import photo_categories, photo_set
    from labelstack.stages.work.train_segmenter import section_of

    os.chdir(root)
    params = load_params()
    categories = photo_categories(params)
    shown = photo_set(params, "train", np.arange(8), categories, Path())
    network = Segmenter(section_of(params, SEGMENTER, len(categories))).fit(shown.photos, shown.maps)
    for fold in params.networks:
        folder = paths.segmenter(SEGMENTER, fold)
        network.save(folder)
        (folder / "classes.json").write_text(json.dumps({"categories": categories.tolist()}))


def measure(root: Path) -> None:
    """Run the stage and print what it took."""
    from labelstack.stages import regions

    os.chdir(root)
    seen, ended = set[str](), threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            for folder in WRITTEN:
                seen.update(str(file) for file in Path(folder).rglob("*") if file.is_file())

    watcher, started = threading.Thread(target=look), time.monotonic()
    watcher.start()
    regions.run(NAME)
    seconds = time.monotonic() - started
    time.sleep(0.1)
    ended.set()
    watcher.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    files = {name for name in seen if not Path(name).name.startswith(".")}
    told = json.loads(Path("metrics/segmentation.json").read_text())["train"]
    print(json.dumps({"MiB": peak, "files": len(files), "seconds": seconds, "regions": told["regions"]}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, nargs="+", default=[300, 3000])
    parser.add_argument("--side", type=int, default=512, help="of photos and class maps, in pixels")
    parser.add_argument("--distinct", type=int, default=24, help="photos that are drawn")
    parser.add_argument("--out", type=Path, help="a new folder that is kept")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train or given.measure:
        train(given.train) if given.train else measure(given.measure)
        return
    with tempfile.TemporaryDirectory() as temporary:
        place, peaks = given.out or Path(temporary), []
        print(f"{'photos':>7} {'MiB':>7} {'files':>6} {'seconds':>8} {'regions':>8}", flush=True)
        for n in given.photos:
            root = (place / str(n)).resolve()
            root.mkdir(parents=True)
            prepare(root, n, given.side, given.distinct)
            for step in ("--train", "--measure"):
                command = [sys.executable, __file__, step, str(root)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(done.stderr)
            took = json.loads(done.stdout.splitlines()[-1])
            peaks.append(took["MiB"])
            cells = f"{took['MiB']:7.0f} {took['files']:6} {took['seconds']:8.0f} {took['regions']:8}"
            print(f"{n:7} {cells}", flush=True)
        print(f"the largest peak is {max(peaks) / min(peaks) - 1:.1%} above the smallest")


if __name__ == "__main__":
    main()
