"""Peak memory of the stage that hands masks in, few photos against many: python benchmarks/masks_memory.py

    python benchmarks/masks_memory.py [--photos 300 3000] [--side 256] [--out FOLDER]

The instances of a few generated photos stand in the tables again and again under ids of their own, and are the regions
too. What runs is the stage, by its command, for each number of photos: regions of train are matched
with the truth, masks of as many test photos are written at 512 × 512, read back and scored. Memory is the largest
resident set of that process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from labelstack.formats.imaterialist2019 import FORMAT
from labelstack.formats.manifest import write_manifest
from labelstack.formats.submission import Form, Texts, write_form
from labelstack.masks.class_map_table import ClassMapWriter
from labelstack.masks.instance_table import categories_of, masks_of, write_instances
from labelstack.masks.painted_maps import ClassMaps
from labelstack.masks.region_writer import region_rows, write_regions
from labelstack.params.sample import SampleSection
from labelstack.sample import draw_instances

NAME, FOLDS, DISTINCT = "garments", 2, 20
PARAMS: dict[str, Any] = {
    "dataset": {"format": "imaterialist2019", "root": "data/sample", "into": "data", "validation": 0.0},
    "base_models": list(range(FOLDS)),
    "folds": {"k": FOLDS},
    "models": {"wide": {"backbone": "small_cnn"}},
    "stackers": {"mean": {"kind": "mean"}},
    "segmenters": {"plain": {"backbone": "small_cnn", "decoder": {"filters": [16, 8], "middle": False}}},
    "regions": {NAME: {}},
}


def prepare(root: Path, n: int, side: int) -> None:
    """All that the stage reads, in a folder like a user's."""
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    draw_instances(root / "data/sample", SampleSection(n_train=DISTINCT, n_test=10, image_size=side), 0)
    data = FORMAT.read(root / "data/sample", None, FOLDS)
    assert data.instances is not None
    place = pd.factorize(data.instances["image_id"].to_numpy())[0]
    of_photo = [data.instances.filter(pa.array(place == i)) for i in range(DISTINCT)]
    manifest, ids = root / "data/manifest", np.arange(n, dtype=np.int64)
    for split, numbers, truth in (("train", ids, "instances"), ("test", ids + n, "test_instances")):
        urls = pd.Series([[]] * n, dtype=object)
        write_manifest(
            manifest / f"{split}.parquet", pd.DataFrame({"image_id": numbers, "url": urls, "label_id": urls})
        )
        parts = [
            rows.set_column(0, rows.schema.field(0), pa.array(np.full(len(rows), image_id, np.int64)))
            for image_id in numbers.tolist()
            for rows in [of_photo[image_id % DISTINCT]]
        ]
        write_instances(manifest / f"{truth}.parquet", pa.concat_tables(parts))
        write_regions(root / f"data/regions/{split}.parquet", _regions(numbers, of_photo))
    _write_class_maps(root, ids + n, side)
    data.labels.assign(train_frequency=0.0).to_parquet(manifest / "labels.parquet", index=False)
    names = [f"{number}.jpg" for number in ids.tolist()]
    write_form(manifest / "submission.json", Form(ids + n, ("ImageId", "labels"), Texts(names, {0: "none"}, "|")))
    folds = pd.DataFrame({"image_id": ids, "fold": ids % FOLDS, "source": ""})
    folds.to_parquet(root / "data/photo_folds.parquet", index=False)


def _write_class_maps(root: Path, test: np.ndarray, side: int) -> None:
    """Those of the truth, for every test photo."""
    truth = root / "data/manifest/test_instances.parquet"
    categories = categories_of(truth, test)
    classes = {category: class_ for class_, category in enumerate(categories.tolist())}
    painted = ClassMaps(truth, test, classes, len(categories))
    with ClassMapWriter(root / "data/class_maps/test.parquet", categories) as writer:
        for image_id in test.tolist():
            writer.add(image_id, painted.at(image_id, side, side))


def _regions(numbers: np.ndarray, of_photo: list[pa.Table]) -> Iterator[pa.RecordBatch]:
    for number in numbers.tolist():
        rows = of_photo[number % DISTINCT]
        score = np.full(len(rows), 0.5, np.float32)
        yield region_rows(number, rows["category"].to_numpy(), score, masks_of(rows))


def measure(root: Path) -> dict[str, float]:
    """Run the stage; what it took."""
    command = [str(Path(sys.executable).with_name("labelstack")), "stage", "submit_masks", NAME]
    started = time.monotonic()
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as stage:
        said = stage.stdout.read() if stage.stdout else b""
        _, status, used = os.wait4(stage.pid, 0)
        stage.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if stage.returncode:
        raise SystemExit(said.decode(errors="replace"))
    told = json.loads((root / "metrics/masks.json").read_text())
    return {"MiB": used.ru_maxrss / 1024, "seconds": seconds, "masks": told["instances"]}


def main() -> None:
    """Prepare, run and print, for each number of photos."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, nargs="+", default=[300, 3000], help="of train, and as many of test")
    parser.add_argument("--side", type=int, default=256, help="of the drawn photos, in pixels")
    parser.add_argument("--out", type=Path, help="a new folder that is kept")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.prepare:
        prepare(given.prepare, given.photos[0], given.side)
        return
    with tempfile.TemporaryDirectory() as temporary:
        place, peaks = given.out or Path(temporary), []
        print(f"{'photos':>7} {'MiB':>7} {'seconds':>8} {'masks':>8}", flush=True)
        for n in given.photos:
            root = (place / str(n)).resolve()
            root.mkdir(parents=True)
            # by a process of its own: a process's largest resident set begins with that of who starts it
            subprocess.run(
                [sys.executable, __file__, "--prepare", root, "--photos", str(n), "--side", str(given.side)], check=True
            )
            took = measure(root)
            peaks.append(took["MiB"])
            print(f"{n:7} {took['MiB']:7.0f} {took['seconds']:8.0f} {took['masks']:8}", flush=True)
        print(f"the largest peak is {max(peaks) / min(peaks) - 1:.1%} above the smallest")


if __name__ == "__main__":
    main()
