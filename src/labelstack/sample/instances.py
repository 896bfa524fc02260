"""Generated garments in the form of iMaterialist 2019: each with its mask, its category and its attributes."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.masks.run_lengths import encode
from labelstack.masks.run_text import write_runs
from labelstack.params.sample import SampleSection
from labelstack.sample.dataset import refuse_foreign
from labelstack.sample.labels import Outfit, sample_outfit
from labelstack.sample.scene import encode_jpeg, photograph_with_parts
from labelstack.support.progress import bar
from labelstack.support.storage import replacing_dir

HEADER = ("ImageId", "EncodedPixels", "Height", "Width", "ClassId")
# The 46 categories of 2019, in the order of their ids.
CATEGORIES = (
    "shirt, blouse",
    "top, t-shirt, sweatshirt",
    "sweater",
    "cardigan",
    "jacket",
    "vest",
    "pants",
    "shorts",
    "skirt",
    "coat",
    "dress",
    "jumpsuit",
    "cape",
    "glasses",
    "hat",
    "headband, head covering, hair accessory",
    "tie",
    "glove",
    "watch",
    "belt",
    "leg warmer",
    "tights, stockings",
    "sock",
    "shoe",
    "bag, wallet",
    "scarf",
    "umbrella",
    "hood",
    "collar",
    "lapel",
    "epaulette",
    "sleeve",
    "pocket",
    "neckline",
    "buckle",
    "zipper",
    "applique",
    "bead",
    "bow",
    "flower",
    "fringe",
    "ribbon",
    "rivet",
    "ruffle",
    "sequin",
    "tassel",
)
# Attributes that garments are drawn with, by supercategory; ids are places in this order, not those of 2019.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "length": ("short (length)", "knee (length)", "long (length)"),
    "textile pattern": ("plain (pattern)", "striped", "checked", "dotted", "floral"),
    "textile finishing, manufacturing techniques": ("denim", "knit", "leather", "lace"),
}
_NAMES = [name for names in ATTRIBUTES.values() for name in names]
_GARMENT = {
    "t-shirt": "top, t-shirt, sweatshirt",
    "shirt": "shirt, blouse",
    "sweater": "sweater",
    "hoodie": "top, t-shirt, sweatshirt",
    "coat": "coat",
    "blazer": "jacket",
    "dress": "dress",
    "skirt": "skirt",
    "trousers": "pants",
    "shorts": "shorts",
}
_TOP = "top, t-shirt, sweatshirt"  # what somebody wears above a skirt, or below a coat
_FEWEST = 4  # pixels of an instance
_SPLITS = ("train", "test")
_OUTFIT, _PHOTO, _NOTES = range(3)  # independent random streams of one photo


def draw_instances(root: str | Path, params: SampleSection, seed: int) -> dict[str, Any]:
    """Draw photos with their instances; equal params and seed give byte-identical files.

    Writes ``train.csv``, ``label_descriptions.json``, ``sample_submission.csv``, ``train/<id>.jpg`` and
    ``test/<id>.jpg`` as the competition has them, and besides ``test_answers.csv``, the truth, a file like train.csv.
    In train.csv an attribute is left out with the chance ``params.label_noise``. A photo depends on the seed, its split
    and its number only.

    Parameters
    ----------
    root : folder to write; what stands there is replaced when everything is drawn
    params : ``n_validation``, ``missing_labels`` and ``mixed_up_labels`` are not used

    Returns
    -------
    dict
        n_train, n_test, n_labels (categories and attributes), instances_per_image (of train).

    Raises
    ------
    UserError
        When ``root`` holds files that are not a generated data set.
    """
    root = Path(root)
    refuse_foreign(root)
    sizes = {"train": params.n_train, "test": params.n_test}
    rows: dict[str, list[tuple[str, ...]]] = {split: [] for split in _SPLITS}
    names: dict[str, list[str]] = {split: [] for split in _SPLITS}
    with replacing_dir(root) as folder, bar(total=sum(sizes.values()), desc="sample", unit="image") as progress:
        for place, split in enumerate(_SPLITS):
            (folder / split).mkdir(parents=True)
            for number in range(sizes[split]):
                streams = [seed, place, number]
                outfit = sample_outfit(np.random.default_rng([*streams, _OUTFIT]))
                image, masks = photograph_with_parts(
                    outfit, params.image_size, np.random.default_rng([*streams, _PHOTO])
                )
                digest = hashlib.md5(f"{seed} {split} {number}".encode(), usedforsecurity=False).hexdigest()
                (folder / split / f"{digest}.jpg").write_bytes(encode_jpeg(image))
                noise = params.label_noise if split == "train" else 0.0
                rng = np.random.default_rng([*streams, _NOTES])
                rows[split] += [(f"{digest}.jpg", *row) for row in _rows(outfit, masks, noise, rng)]
                names[split].append(f"{digest}.jpg")
                progress.update()
        _write(folder / "train.csv", HEADER, rows["train"])
        _write(folder / "test_answers.csv", HEADER, rows["test"])
        sample = [(name, "1 1", str(CATEGORIES.index("shoe"))) for name in names["test"]]
        _write(folder / "sample_submission.csv", ("ImageId", "EncodedPixels", "ClassId"), sample)
        (folder / "label_descriptions.json").write_text(json.dumps(_descriptions(), indent=1) + "\n", encoding="utf-8")
    return {
        **{f"n_{split}": n for split, n in sizes.items()},
        "n_labels": len(CATEGORIES) + len(_NAMES),
        "instances_per_image": round(len(rows["train"]) / sizes["train"], 4),
    }


def category_of(name: str, outfit: Outfit) -> int:
    """The category of what a mask is called: the garment, a top, or a part such as ``left sleeve``."""
    words = {"garment": _GARMENT[outfit.garment], "top": _TOP}
    return CATEGORIES.index(words.get(name, name.rpartition(" ")[2]))


def attributes_of(outfit: Outfit) -> list[int]:
    """Attributes of an outfit's garment, ascending."""
    worn = [f"{outfit.length} (length)", outfit.pattern or "plain (pattern)", outfit.material]
    return sorted(_NAMES.index(name) for name in worn if name in _NAMES)


def _rows(
    outfit: Outfit, masks: dict[str, NDArray[np.bool_]], noise: float, rng: np.random.Generator
) -> list[tuple[str, ...]]:
    """Runs, height, width and class of each instance, what lies on others after them."""
    large = {name: mask for name, mask in masks.items() if mask.sum() >= _FEWEST}
    if not large:
        return []
    texts = write_runs(encode(np.stack(list(large.values()))))
    rows = []
    for (name, mask), text in zip(large.items(), texts, strict=True):
        worn = attributes_of(outfit) if name == "garment" else []
        noted = [attribute for attribute in worn if rng.random() >= noise]
        label = "_".join(map(str, [category_of(name, outfit), *noted]))
        rows.append((text, *map(str, mask.shape), label))
    return rows


def _descriptions() -> dict[str, Any]:
    """label_descriptions.json."""
    groups = [group for group, names in ATTRIBUTES.items() for _ in names]
    return {
        "categories": [
            {"id": number, "name": name, "supercategory": "", "level": 2} for number, name in enumerate(CATEGORIES)
        ],
        "attributes": [
            {"id": number, "name": name, "supercategory": group, "level": 1}
            for number, (name, group) in enumerate(zip(_NAMES, groups, strict=True))
        ],
    }


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
