"""A small data set in the form of iMaterialist 2019."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HEADER = ["ImageId", "EncodedPixels", "Height", "Width", "ClassId"]
ROWS: list[list[Any]] = [
    ["a.jpg", "1 4 31 2", 30, 40, "6_2_0"],
    ["a.jpg", "1 2", 30, 40, "0"],
    ["b.jpg", "10 3 20 1", 20, 25, "1"],
]
DESCRIPTIONS: dict[str, Any] = {
    "info": {},
    "categories": [
        {"id": 0, "name": "shirt, blouse", "supercategory": "upperbody", "level": 2},
        {"id": 1, "name": "headband, head covering, hair accessory", "supercategory": "head", "level": 2},
        {"id": 6, "name": "pants", "supercategory": "lowerbody", "level": 2},  # 2 … 5 are not there
    ],
    "attributes": [
        {"id": 0, "name": "mini (length)", "supercategory": "length", "level": 1},
        {"id": 2, "name": "washed", "supercategory": "textile finishing, manufacturing techniques", "level": 1},
        {"id": 340, "name": "symmetrical", "supercategory": "silhouette", "level": 1},
    ],
}


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def photo(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 128, np.uint8))


def write_photos(root: Path, rows: Sequence[Sequence[Any]] = ROWS, header: Sequence[str] = HEADER) -> Path:
    """All files; photos a.jpg of 30 × 40 and b.jpg of 20 × 25 pixels, c.jpg to be predicted."""
    root.mkdir(parents=True, exist_ok=True)
    write_csv(root / "train.csv", header, rows)
    write_csv(root / "sample_submission.csv", ["ImageId", "EncodedPixels", "ClassId"], [["c.jpg", "1 1", 23]] * 2)
    (root / "label_descriptions.json").write_text(json.dumps(DESCRIPTIONS))
    photo(root / "train/a.jpg", 30, 40)
    photo(root / "train/b.jpg", 20, 25)
    photo(root / "test/c.jpg", 10, 10)
    return root
