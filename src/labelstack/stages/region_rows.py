"""Stage `region_rows@{name}`: regions of photos as the rows of all that follows; their labels are attributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.formats.manifest import read_manifest, write_manifest
from labelstack.formats.submission import Form, Texts, write_form
from labelstack.images.region_crops import CropShards, CropStyle, crops_of
from labelstack.masks.run_lengths import RunLengths
from labelstack.params import Params, load_params
from labelstack.params.region_rows import RegionRowsSection
from labelstack.stages import paths
from labelstack.stages.common import done, known
from labelstack.stages.rows import Split
from labelstack.stages.work.rows_of_regions import (
    PREDICTED,
    TRUE,
    Counted,
    PhotoRegions,
    carriers,
    photo_regions,
    place,
)
from labelstack.support import storage
from labelstack.support.errors import UserError

HEADER = ("RegionId", "labels")
_BETWEEN = "|"
_SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass
class _Rows:
    """The rows of one split, without their crops."""

    row_id: list[int] = field(default_factory=list)
    photo: list[int] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    labels: list[list[int] | None] = field(default_factory=list)
    part: list[str] = field(default_factory=list)

    def add(self, photo: PhotoRegions) -> None:
        self.row_id += photo.row_id
        self.photo += [photo.photo] * len(photo.row_id)
        self.name += photo.name
        self.labels += photo.labels
        self.part += photo.part


def run(name: str) -> None:
    """Write data/manifest and data/images of regions, and metrics/region_rows.json."""
    params = load_params()
    section: RegionRowsSection = known(name, params.region_rows, "section of region_rows")
    train = read_manifest(place(paths.manifest("train")))["image_id"].to_numpy(np.int64)
    wanted = carriers(train, section.fewest)
    of_photos = pd.read_parquet(place(paths.LABELS))
    attributes = of_photos["label_id"].to_numpy(np.int64)
    rows, counts = dict[Split, _Rows](), dict[Split, Counted]()
    for split in _SPLITS:
        counted = Counted()
        rows[split] = _written(split, params, section, wanted, attributes, counted)
        counted.crops = len(rows[split].row_id)
        counts[split] = counted
    _refuse(rows)
    labels = _label_table(of_photos, rows)
    _write_tables(rows, labels)
    told = {split: asdict(counted) for split, counted in counts.items()}
    summary = {"categories": wanted.tolist(), "labels": len(labels), "splits": told}
    storage.write_json(paths.METRICS / "region_rows.json", summary)
    sizes = ", ".join(f"{counted.crops} {split}" for split, counted in counts.items())
    done("region_rows", f"{sizes} regions of {len(wanted)} categories, {len(labels)} attributes", paths.LABELS.parent)


def _written(
    split: Split,
    params: Params,
    section: RegionRowsSection,
    wanted: NDArray[np.int64],
    attributes: NDArray[np.int64],
    counted: Counted,
) -> _Rows:
    """Write the crops of a split; its rows."""
    how = CropStyle.of(section, params.images.jpeg_quality)
    shards, rows, under_way = CropShards(paths.shards(split), params.images.shard_rows), _Rows(), list[list[int]]()

    def photos() -> Iterator[tuple[memoryview, RunLengths]]:
        for photo in photo_regions(split, wanted, section, attributes, counted):
            rows.add(photo)
            under_way.append(photo.row_id)
            yield photo.jpeg, photo.masks

    for cut in crops_of(photos(), how):
        shards.add(under_way.pop(0), cut)
    shards.close()
    return rows


def _refuse(rows: dict[Split, _Rows]) -> None:
    """Raise ``UserError`` where there is nothing to learn from, to stack or to hand in, or two rows have one id."""
    predicted = {split: sum(part == PREDICTED for part in of.part) for split, of in rows.items()}
    needed: dict[Split, str] = {"train": "is a true instance (region_rows…match)", "test": "may carry attributes"}
    for split, why in needed.items():
        if not predicted[split]:
            raise UserError(
                f"{paths.regions(split)}: no region of the {split} photos {why}, so there is no row: train the "
                "segmenters longer (metrics/segmentation.json says how well they see), or leave region_rows out"
            )
    ids, times = np.unique([row for of in rows.values() for row in of.row_id], return_counts=True)
    if (times > 1).any():
        names = [n for of in rows.values() for i, n in zip(of.row_id, of.name, strict=True) if i == ids[times > 1][0]]
        raise UserError(f"regions {' and '.join(map(repr, names))} have the same id inside, by chance: rename a photo")


def _label_table(of_photos: pd.DataFrame, rows: dict[Split, _Rows]) -> pd.DataFrame:
    """Attributes that a true region of train has; counts are of true regions, and of validation's predicted ones."""
    train = [
        labels or [] for labels, part in zip(rows["train"].labels, rows["train"].part, strict=True) if part == TRUE
    ]
    ids = of_photos["label_id"].to_numpy(np.int64)

    def times(sets: list[list[int]]) -> NDArray[np.int64]:
        flat = np.array([label for labels in sets for label in labels], np.int64)
        return np.bincount(np.searchsorted(ids, flat), minlength=len(ids))

    n_train, n_validation = times(train), times([labels or [] for labels in rows["validation"].labels])
    table = of_photos[["label_id", "name", "group"]].assign(
        n_train=n_train, n_validation=n_validation, train_frequency=n_train / len(train)
    )
    return table[n_train > 0].reset_index(drop=True)


def _write_tables(rows: dict[Split, _Rows], labels: pd.DataFrame) -> None:
    there = set(labels["label_id"].tolist())
    for split, of in rows.items():
        sets = [None if one is None else [label for label in one if label in there] for one in of.labels]
        urls = dict(read_manifest(place(paths.manifest(split)))[["image_id", "url"]].itertuples(index=False, name=None))
        manifest = pd.DataFrame(
            {
                "image_id": np.array(of.row_id, np.int64),
                "url": pd.Series([urls[photo] for photo in of.photo], dtype=object),
                "label_id": pd.Series(sets, dtype=object),
                "name": pd.Series(of.name, dtype="str"),
            }
        )
        if split == "test":
            write_manifest(paths.ANSWERS, manifest[[one is not None for one in sets]].drop(columns="name"))
            manifest["label_id"] = pd.Series([None] * len(manifest), dtype=object)
        write_manifest(paths.manifest(split), manifest)
    with storage.replacing(paths.BESIDE) as temporary:
        _beside(rows).to_parquet(temporary, index=False)
    with storage.replacing(paths.LABELS) as temporary:
        labels.to_parquet(temporary, index=False)
    test = rows["test"]
    texts = Texts(test.name, dict(zip(labels["label_id"].tolist(), labels["name"], strict=True)), _BETWEEN)
    write_form(paths.SUBMISSION_FORM, Form(np.array(test.row_id, np.int64), HEADER, texts))


def _beside(rows: dict[Split, _Rows]) -> pd.DataFrame:
    """What is said of rows: those of a photo, and of what its photo belongs to, go together, in their photo's fold."""
    photos = pd.read_parquet(place(paths.BESIDE)).set_index(["split", "row_id"])["group"]
    folds = pd.read_parquet(paths.PHOTO_FOLDS).set_index("image_id")["fold"]
    parts = []
    for split in ("train", "validation"):
        of = rows[split]
        group = photos.loc[split].reindex(of.photo).to_numpy() if len(of.photo) else np.array([], object)
        alone = [f"\n{photo}" for photo in of.photo]  # no cell of a file holds a line end at its start
        fold = folds.reindex(of.photo) if split == "train" else pd.Series(-1, index=range(len(of.photo)))
        if fold.isna().any():
            raise UserError(
                f"{paths.PHOTO_FOLDS}: {int(fold.isna().sum())} regions are of train photos that have no fold: run "
                "`dvc repro` from the start of the segmenters"
            )
        parts.append(
            pd.DataFrame(
                {
                    "split": split,
                    "row_id": np.array(of.row_id, np.int64),
                    "group": [one or photo for one, photo in zip(group, alone, strict=True)],
                    "fold": fold.to_numpy(np.int64),
                    "part": of.part,
                }
            )
        )
    return pd.concat(parts, ignore_index=True).astype({"split": "str", "group": "str", "part": "str"})
