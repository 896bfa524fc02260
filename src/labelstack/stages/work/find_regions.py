"""Regions of all photos: of train by segmenters that did not learn from them, of the other splits by the mean of all.

Photos whose truth is known are counted here. Of test photos the class maps are kept: who scores what is handed in looks
at the answers, nobody before. A few photos are in memory at a time, whatever their number. Finished parts of a split
outlive a kill.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelstack.images.pixels.decode import read_pixels
from labelstack.images.shards.shard_files import ok_ids, read_jpegs, shard_paths
from labelstack.images.shards.verify import check_shards
from labelstack.masks.class_map_table import ClassMapWriter, join_class_maps
from labelstack.masks.region_writer import region_batches, region_rows, write_regions
from labelstack.params import Params
from labelstack.params.regions import RegionsSection
from labelstack.segmentation.mean_maps import mean_probabilities
from labelstack.stages import paths
from labelstack.stages.photo_maps import true_maps
from labelstack.stages.photos import Ids, PhotoPlaces, photo_places, read_photo_folds
from labelstack.support.archive import DAMAGED_ARCHIVE
from labelstack.support.errors import UserError
from labelstack.support.progress import bar
from labelstack.support.storage import read_json, replacing

if TYPE_CHECKING:
    from labelstack.segmentation.segmenter import Segmenter

TRUE = ("train", "validation")  # splits whose instances are known
_PARTS = 7  # of a split, at most
_AT_ONCE = 4  # photos

Pixels = NDArray[np.uint8]
Counts = NDArray[np.int32]


@dataclass(frozen=True)
class FoundRegions:
    """What was found in a split.

    Attributes
    ----------
    photos : that are there
    regions : in them
    counts : int32 [photos, 3, classes], ``confusion.class_counts`` of each at ``regions.size``; None: truth is unknown
    """

    photos: int
    regions: int
    counts: Counts | None


@dataclass(frozen=True)
class _Networks:
    """Segmenters of all folds, and what their classes are."""

    of_fold: Mapping[int, list[Segmenter]]
    categories: Ids

    def of(self, fold: int | None) -> list[Segmenter]:
        """Those that did not learn from a fold; None: all."""
        return self.of_fold[fold] if fold is not None else [one for some in self.of_fold.values() for one in some]


def compute(params: Params, section: RegionsSection, work: Path) -> tuple[dict[str, FoundRegions], Ids]:
    """Write data/regions and data/class_maps; what was found by split, and each class's category, int64 [classes − 1].

    Parameters
    ----------
    work : folder of finished parts

    Raises
    ------
    UserError
        When a segmenter is not trained or was trained on other categories, or shards are damaged.
    """
    from labelstack.networks.determinism import deterministic_operations

    deterministic_operations()
    networks, places = _load(params), photo_places(params)
    folds = read_photo_folds()
    fold_of = dict(zip(folds.image_id.tolist(), folds.fold.tolist(), strict=True))
    found = {}
    for split in paths.SPLITS:
        check_shards(places.shards(split), params.images.verify, "regions")
        parts = _parts(places, split)
        for number, shards in enumerate(bar(parts, desc=f"regions of {split}", unit="part")):
            if _finished(work, split, number) is None:
                _find(params, section, split, shards, networks, fold_of if split == "train" else {}, work, number)
        found[split] = _joined(work, split, len(parts), networks.categories)
    return found, networks.categories


def _load(params: Params) -> _Networks:
    """The segmenters that regions are found by, of all folds; raise ``UserError`` with all that is wrong."""
    from labelstack.segmentation.segmenter import Segmenter

    of_fold: dict[int, list[Segmenter]] = {}
    classes: dict[Path, list[int]] = {}
    problems = []
    for name in params.region_segmenters:
        for fold in params.networks:
            folder = paths.segmenter(name, fold)
            if not (folder / "model.keras").exists():
                typed = f"labelstack stage segment {name} {fold}"
                problems.append(f"{folder / 'model.keras'}: not found. Run `dvc repro` (or `{typed}`) first.")
                continue
            classes[folder] = read_json(folder / "classes.json")["categories"]
            of_fold.setdefault(int(fold), []).append(Segmenter.load(folder))
    first = next(iter(classes.values()), [])
    problems += [
        f"{folder}: was trained on other categories: train it again" for folder in classes if classes[folder] != first
    ]
    if problems:
        raise UserError("\n".join(problems))
    return _Networks(of_fold, np.array(first, np.int64))


def _parts(places: PhotoPlaces, split: str) -> list[list[Path]]:
    """Shards of a split, so many together that there are few parts."""
    shards = shard_paths(places.shards(split))
    size = max(-(-len(shards) // _PARTS), 1)
    return [shards[start : start + size] for start in range(0, len(shards), size)]


def _find(
    params: Params,
    section: RegionsSection,
    split: str,
    shards: Sequence[Path],
    networks: _Networks,
    fold_of: Mapping[int, int],
    work: Path,
    number: int,
) -> None:
    """Write one part: regions, with counts where the truth is known, else with class maps."""
    from labelstack.segmentation.confusion import class_counts, confusion_matrix
    from labelstack.segmentation.regions import find_regions

    classes, counts = len(networks.categories) + 1, list[Counts]()

    def rows(maps: ClassMapWriter | None) -> Iterator[pa.RecordBatch]:
        for shard in shards:
            truth = true_maps(params, ok_ids(shard), networks.categories) if split in TRUE else None
            for image_id, probability in _probabilities(shard, section, networks, fold_of):
                regions = find_regions(probability, classes - 1, section)
                if truth is not None:
                    matrix = confusion_matrix(truth.at(image_id, *section.size), regions.class_map, classes)
                    counts.append(class_counts(matrix).astype(np.int32))
                if maps is not None:
                    maps.add(image_id, regions.class_map)
                category = networks.categories[regions.class_].astype(np.int32)
                yield region_rows(image_id, category, regions.score, regions.masks)

    parquet, maps, npz = _files(work, split, number)
    for old in (npz, maps, parquet):
        old.unlink(missing_ok=True)
    with nullcontext() if split in TRUE else ClassMapWriter(maps, networks.categories) as writer:
        write_regions(parquet, rows(writer))
    with replacing(npz) as temporary, temporary.open("wb") as file:
        n = sum(len(ok_ids(shard)) for shard in shards)
        known = np.array(counts, np.int32).reshape(-1, 3, classes)
        np.savez(file, photos=np.int64(n), counts=known)


def _probabilities(
    shard: Path, section: RegionsSection, networks: _Networks, fold_of: Mapping[int, int]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Photos of a shard in its order, each with probabilities float32 [*section.size, classes]."""
    jpegs = read_jpegs(shard)
    there = ((int(i), jpeg) for i, jpeg in zip(jpegs.image_id, jpegs.jpeg, strict=True) if jpeg is not None)
    while some := list(islice(there, _AT_ONCE)):
        ids = [image_id for image_id, _ in some]
        images = [read_pixels(jpeg) for _, jpeg in some]
        of_photo: dict[int, NDArray[np.float32]] = {}
        for fold in dict.fromkeys(fold_of.get(image_id) for image_id in ids):
            mine = [place for place, image_id in enumerate(ids) if fold_of.get(image_id) == fold]
            found = mean_probabilities(networks.of(fold), [images[place] for place in mine], section)
            of_photo |= {ids[place]: one for place, one in zip(mine, found, strict=True)}
        for image_id in ids:
            yield image_id, of_photo.pop(image_id)


def _files(work: Path, split: str, number: int) -> tuple[Path, Path, Path]:
    """Of a part: its regions, its class maps (of test alone) and its counts."""
    part = f"{split}-{number:02d}"
    return work / f"{part}.parquet", work / f"{part}-maps.parquet", work / f"{part}.npz"


def _finished(work: Path, split: str, number: int) -> tuple[int, Counts] | None:
    """Photos and counts of a part that is whole; None where there is none. The file of counts is written last."""
    parquet, maps, npz = _files(work, split, number)
    try:
        with np.load(npz, allow_pickle=False) as content, pq.ParquetFile(parquet):
            if split not in TRUE:
                pq.read_metadata(maps)
            return int(content["photos"]), content["counts"]
    except (*DAMAGED_ARCHIVE, pa.ArrowException, ValueError, KeyError):
        return None


def _joined(work: Path, split: str, parts: int, categories: Ids) -> FoundRegions:
    """Write the regions of a split, of test its class maps too; what was found."""
    done = [part for number in range(parts) if (part := _finished(work, split, number)) is not None]
    files = [_files(work, split, number) for number in range(parts)]
    total = write_regions(paths.regions(split), region_batches(regions for regions, _, _ in files))
    if split not in TRUE:
        join_class_maps(paths.CLASS_MAPS, [maps for _, maps, _ in files], categories)
    counts = np.concatenate([counts for _, counts in done]) if done and split in TRUE else None
    return FoundRegions(sum(photos for photos, _ in done), total, counts)
