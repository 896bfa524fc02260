"""A small data set in a recipe's own form: made-up garment photos, and JSON files as the recipe's are written."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labelstack.params.dataset import IMET, INSTANCES
from labelstack.params.sample import SampleSection
from labelstack.params.task import FASHIONAI
from labelstack.rehearsal.shrink import N_ATTRIBUTES, N_IMAGES, N_MASKED, PICTURE
from labelstack.sample import draw_attributes, draw_dataset, draw_instances, draw_museum

ANNOTATED = ("train", "validation")
SEED = 2018


class Image(NamedTuple):
    """A row of a split: its id, where it lies below the pictures' folder, and its labels."""

    image_id: int
    place: str
    labels: list[int]


@dataclass(frozen=True)
class DrawnData:
    """Pictures on disk (``<split>/<number>``), the rows of each split, and the labels' names (``group::value``)."""

    rows: Mapping[str, list[Image]]
    names: Mapping[int, str]


Url = Callable[[str], str]
Writer = Callable[[Path, DrawnData, Url], None]


def draw(pictures: Path, label_ids: tuple[int, int] | None, *, single: bool = False) -> DrawnData:
    """Draw the pictures into a new folder.

    Parameters
    ----------
    pictures : Path
        Folder for ``train``, ``validation`` and ``test``, beside which the drawing works.
    label_ids : (first, last) or None
        Declared range: the labels are spread over it, from its first to its last; other ids have no image.
    single : bool
        One label for each image: its first.
    """
    sizes = {f"n_{split}": n for split, n in N_IMAGES.items()}
    work = pictures.parent / f".{pictures.name}.drawn"
    draw_dataset(work, SampleSection(**sizes, image_size=PICTURE), SEED, workers=0)
    (work / "images").rename(pictures)
    for picture in pictures.glob("*/*.jpg"):
        picture.rename(picture.with_suffix(""))  # as in URLs of the real data
    with (work / "labels.csv").open(encoding="utf-8", newline="") as file:
        drawn = {int(label): name for label, name in list(csv.reader(file))[1:]}
    first, last = label_ids or (1, len(drawn))
    spread = np.linspace(first, last, len(drawn)).round().astype(int).tolist()
    new = dict(zip(drawn, spread, strict=True))
    rows = {}
    for split in N_IMAGES:
        content = json.loads((work / ("test_answers.json" if split == "test" else f"{split}.json")).read_text())
        rows[split] = [
            Image(
                row["image_id"],
                f"{split}/{row['image_id']}",
                sorted({new[label] for label in row["label_id"]})[: 1 if single else None],
            )
            for row in content["annotations"]
        ]
    shutil.rmtree(work)
    names = {label: f"label::{label}" for label in range(first, last + 1)} | {new[k]: v for k, v in drawn.items()}
    return DrawnData(rows, names)


def write_described(root: Path, drawn: DrawnData, url: Url) -> None:
    """As the competition's page describes the files: ``image_id``, ``label_id``, whole numbers, a list of URLs."""
    root.mkdir(parents=True, exist_ok=True)
    for split, rows in drawn.rows.items():
        content: dict[str, Any] = {"images": [{"image_id": row.image_id, "url": [url(row.place)]} for row in rows]}
        if split in ANNOTATED:
            content["annotations"] = [{"image_id": row.image_id, "label_id": row.labels} for row in rows]
        _write_json(root / f"{split}.json", content)
    with (root / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("label_id", "name"), *sorted(drawn.names.items())])


def write_published(root: Path, drawn: DrawnData, url: Url) -> None:
    """As the competition published the files.

    ``imageId``, ``labelId``: text, in test.json whole numbers; one URL; labels unsorted and here and there twice; the
    first test images are the validation images; a label map with tasks; a sample submission.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    for split in ANNOTATED:
        rows = drawn.rows[split]
        images = [{"url": url(row.place), "imageId": str(row.image_id)} for row in rows]
        annotations = [{"labelId": _as_annotated(row, rng), "imageId": str(row.image_id)} for row in rows]
        _write_json(root / f"{split}.json", {"images": images, "annotations": annotations})
    test = published_test(drawn.rows)
    _write_json(root / "test.json", {"images": [{"url": url(row.place), "imageId": row.image_id} for row in test]})
    tasks = list(dict.fromkeys(name.split("::")[0] for name in drawn.names.values()))
    lines = ["labelId,taskId,labelName,taskName"]
    for label, name in sorted(drawn.names.items()):
        task, value = name.split("::")
        lines.append(f'{label},{tasks.index(task) + 1},"{value}, {task}",{task}')
    (root / "labels.csv").write_bytes("\r\n".join(lines).encode())
    sample = ["image_id,label_id", *(f"{row.image_id},{min(drawn.names)}" for row in test)]
    (root / "sample_submission.csv").write_text("\n".join(sample) + "\n", encoding="utf-8")


def published_test(rows: Mapping[str, Sequence[Image]]) -> list[Image]:
    """The test split with the validation images in the first places, under the same ids."""
    shared = list(rows["validation"])
    return shared + [row for row in rows["test"] if row.image_id > len(shared)]


FORMATS = ("imaterialist2018", IMET, FASHIONAI, INSTANCES)  # of what is written here
# Recipes whose files are not written as the page describes them.
WRITERS: dict[str, Writer] = {"imaterialist2018": write_published}


def write(recipe: str, root: Path, drawn: DrawnData, url: Url) -> None:
    """Write the files of a recipe's data set into ``root``, and the answers to its test images beside them.

    Parameters
    ----------
    url : callable (place below the pictures' folder) → URL
    """
    writer = WRITERS.get(recipe, write_described)
    writer(root, drawn, url)
    test = published_test(drawn.rows) if writer is write_published else drawn.rows["test"]
    answers = [{"image_id": row.image_id, "label_id": row.labels} for row in test]
    _write_json(root / "test_answers.json", {"annotations": answers})


def write_museum(root: Path) -> None:
    """A data set of museum objects, images and all, in the form of iMet 2019; it has no validation images."""
    sizes = {split: N_IMAGES[split] for split in ("train", "test")}
    draw_museum(root, SampleSection(n_train=sizes["train"], n_test=sizes["test"], image_size=PICTURE), SEED)


def write_attributes(root: Path) -> None:
    """Garments of eight attributes, images and all, in the form of FashionAI 2018; it has no validation images."""
    sizes = {f"n_{split}": n for split, n in N_ATTRIBUTES.items()}
    draw_attributes(root, SampleSection(**sizes, image_size=PICTURE), SEED)


def write_instances(root: Path) -> None:
    """Garments with masks, images and all, in the form of iMaterialist 2019; it has no validation images."""
    sizes = {f"n_{split}": n for split, n in N_MASKED.items()}
    draw_instances(root, SampleSection(**sizes, image_size=PICTURE), SEED)


def _as_annotated(row: Image, rng: np.random.Generator) -> list[str]:
    labels = [str(label) for label in rng.permutation(row.labels)]
    return labels + labels[:1] if row.image_id % 10 == 0 else labels


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
