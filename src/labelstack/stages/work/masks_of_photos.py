"""Regions as they are handed in, against true instances; a hundred photos at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelstack.formats.instance_labels import InstanceLabels
from labelstack.formats.mask_submission import FoundInstances, read_masks, write_masks
from labelstack.masks.instance_table import masks_of, read_instances
from labelstack.masks.region_table import read_regions
from labelstack.masks.run_geometry import disjoint, resized
from labelstack.masks.run_lengths import RunLengths, areas, concatenated
from labelstack.predictions import Predictions
from labelstack.scoring.attribute_rule import FoundPairs, Rule, candidate_sets, chance_of, pairs_of, written
from labelstack.scoring.instance_precision import Instances, photo_scores
from labelstack.stages import paths
from labelstack.stages.work.rows_of_regions import PREDICTED, region_id
from labelstack.support.storage import replacing

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_AT_ONCE = 100  # photos
_NEVER = -1.0  # chance of a set of a region that nothing was predicted of


@dataclass(frozen=True)
class Attributes:
    """What could be written of predicted regions.

    Attributes
    ----------
    label_id : int64 [n_labels], ascending
    predictions : by row id
    decided : bool [n, n_labels], in the order of ``predictions``
    """

    label_id: Ints
    predictions: Predictions
    decided: Bools

    @classmethod
    def none(cls) -> Attributes:
        """Where photos are the rows, and nothing is known of regions."""
        empty = Predictions(np.zeros(0, np.int64), np.zeros((0, 0), np.float32))
        return cls(np.zeros(0, np.int64), empty, np.zeros((0, 0), bool))

    def of(self, row_id: Ints) -> tuple[list[Bools], NDArray[np.float64]]:
        """Each of ``SETS``, bool [m, n_labels], and chances, float64 [m, n_sets], −1 without a prediction."""
        order = np.argsort(self.predictions.image_id)
        ids = self.predictions.image_id[order]
        place = np.minimum(np.searchsorted(ids, row_id), max(len(ids) - 1, 0))
        there = ids[place] == row_id if len(ids) else np.zeros(len(row_id), bool)
        P = np.zeros((len(row_id), len(self.label_id)), np.float32)
        P[there] = self.predictions.probability[order[place[there]]]
        decided = np.zeros(P.shape, bool)
        decided[there] = self.decided[order[place[there]]]
        sets = candidate_sets(decided, P)
        chances = np.stack([np.where(there, chance_of(one, P), _NEVER) for one in sets], axis=1)
        return sets, chances


def found_in(photos: Ints, truth: Path, regions: Path, side: int, attributes: Attributes) -> FoundPairs:
    """Regions of photos that are true instances but for attributes, brought to ``side`` × ``side`` as handed in.

    Parameters
    ----------
    photos : int64 [n] ids; places in the result are places here
    truth, regions : tables of instances and of regions
    """
    parts: list[tuple[Any, ...]] = []
    total = np.zeros(len(photos), np.int64)
    for start in range(0, len(photos), _AT_ONCE):
        some = photos[start : start + _AT_ONCE]
        true = true_instances(some, truth, side)
        given, region = _given(read_regions(regions, some), some, side)
        total[start : start + len(some)] += np.bincount(true.photo, minlength=len(some))
        total[start : start + len(some)] += np.bincount(given.photo, minlength=len(some))
        i, j, hits = pairs_of(true, given)
        row_id = np.array(
            [region_id(int(some[given.photo[k]]), PREDICTED, int(region[k])) for k in j.tolist()], np.int64
        )
        candidates, chance = attributes.of(row_id)
        Y, strange = _matrix([true.attributes[k] for k in i.tolist()], attributes.label_id)
        right = np.stack([(one == Y).all(axis=1) & ~strange for one in candidates], axis=1)
        bare = ~Y.any(axis=1) & ~strange
        parts.append((given.photo[j] + start, true.category[i], hits, bare, right, chance))
    photo, category, hits, bare, right, chance = (np.concatenate(column) for column in zip(*parts, strict=True))
    return FoundPairs(photo, category, hits, bare, right, chance, total)


@dataclass(frozen=True)
class Writing:
    """What is handed in.

    Attributes
    ----------
    names, photos : of every test photo in the submission's order, and its id
    regions : table of regions
    attributes, rule : what could be written of these, and when it is
    side : of the squashed photos in pixels
    kinds : categories and attributes that there are
    """

    names: Sequence[str]
    photos: Ints
    regions: Path
    attributes: Attributes
    rule: Rule
    side: int
    kinds: InstanceLabels


@dataclass
class HandedIn:
    """What stands in the file: counts, and, where true instances are known, scores of each photo, float64 [n]."""

    instances: int = 0
    with_attributes: int = 0
    nothing_found: int = 0
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def write_checked(path: Path, writing: Writing, truth: Path) -> HandedIn:
    """Write the submission, a hundred photos at a time, each part read back as the server would read it.

    Parameters
    ----------
    truth : table of the test photos' instances; without rows nothing is scored

    Raises
    ------
    InputProblems
        When the server would refuse the file. Nothing is written then.
    """
    result, known = HandedIn(), pq.read_metadata(truth).num_rows > 0
    scores: list[dict[str, NDArray[np.float64]]] = []
    part = paths.WORK / "submit_masks" / path.name
    with replacing(path) as temporary, temporary.open("wb") as whole:
        for start in range(0, len(writing.names), _AT_ONCE):
            names, photos = writing.names[start : start + _AT_ONCE], writing.photos[start : start + _AT_ONCE]
            n = write_masks(part, names, _photos_to_write(names, photos, writing), writing.side)
            given = read_masks(part, names, writing.kinds, writing.side)
            result.instances += n
            result.with_attributes += sum(map(bool, given.attributes))
            result.nothing_found += len(given.photo) - n
            if known:
                handed_in = Instances(given.photo, given.category, given.attributes, given.masks)
                scores.append(_scored(true_instances(photos, truth, writing.side), handed_in, len(photos)))
            with part.open("rb") as file:
                if start:
                    file.readline()  # the header
                shutil.copyfileobj(file, whole)
    shutil.rmtree(part.parent)
    if scores:
        result.scores = {name: np.concatenate([one[name] for one in scores]) for name in scores[0]}
    return result


def _scored(truth: Instances, given: Instances, n: int) -> dict[str, NDArray[np.float64]]:
    bare: list[Any] = [frozenset[int]()] * len(given.photo)
    return {
        "with_attributes": photo_scores(truth, given, n),
        "without_attributes": photo_scores(truth, replace(given, attributes=bare), n),
        "categories_alone": photo_scores(truth, given, n, attributes=False),
    }


def photos_to_write(writing: Writing) -> Iterator[FoundInstances]:
    """What is handed in of every photo that has regions, a hundred photos in memory at a time."""
    for start in range(0, len(writing.names), _AT_ONCE):
        stop = start + _AT_ONCE
        yield from _photos_to_write(writing.names[start:stop], writing.photos[start:stop], writing)


def _photos_to_write(names: Sequence[str], photos: Ints, writing: Writing) -> Iterator[FoundInstances]:
    """What is handed in of each of these photos that has regions, smaller ones on top."""
    table, attributes = read_regions(writing.regions, photos), writing.attributes
    of, masks = _places(photos, table["image_id"].to_numpy()), masks_of(table)
    category, region = table["category"].to_numpy().astype(np.int64), table["region"].to_numpy()
    rows = zip(photos[of].tolist(), region.tolist(), strict=True)
    sets, chance = attributes.of(np.array([region_id(photo, PREDICTED, n) for photo, n in rows], np.int64))
    chosen = written(writing.rule, category, chance)
    for place in np.unique(of).tolist():
        own = np.flatnonzero(of == place)
        own = own[np.argsort(areas(masks.take(own)), kind="stable")]
        worn = [[] if chosen[k] < 0 else attributes.label_id[sets[chosen[k]][k]].tolist() for k in own.tolist()]
        yield FoundInstances(names[place], category[own].tolist(), worn, masks.take(own))


def true_instances(photos: Ints, truth: Path, side: int) -> Instances:
    """Instances of photos at ``side`` × ``side``; places are places in ``photos``, other photos are left out."""
    true = read_instances(truth, photos)
    sets = [frozenset(one) for one in true["attributes"].to_pylist()]
    of, masks = _places(photos, true["image_id"].to_numpy()), resized(masks_of(true), side, side)
    return Instances(of, true["category"].to_numpy().astype(np.int64), sets, masks)


def _given(table: pa.Table, photos: Ints, side: int) -> tuple[Instances, Ints]:
    """Regions as they are handed in, and the number of each within its photo."""
    of, masks = _places(photos, table["image_id"].to_numpy()), masks_of(table)
    parts, kept = list[RunLengths](), list[Ints]()
    for place in np.unique(of).tolist():
        own = np.flatnonzero(of == place)
        own = own[np.argsort(areas(masks.take(own)), kind="stable")]
        shown = disjoint(resized(masks.take(own), side, side))
        left = shown.count > 0
        parts.append(shown.take(left))
        kept.append(own[left])
    rows = np.concatenate([*kept, np.zeros(0, np.int64)])
    bare: list[Any] = [frozenset[int]()] * len(rows)
    category = table["category"].to_numpy().astype(np.int64)[rows]
    shown = concatenated(parts) if parts else masks.take(rows)
    return Instances(of[rows], category, bare, shown), table["region"].to_numpy().astype(np.int64)[rows]


def _places(photos: Ints, ids: NDArray[np.integer]) -> Ints:
    """Where each id stands among the photos."""
    order = np.argsort(photos)
    return np.asarray(order[np.searchsorted(photos, ids, sorter=order)], np.int64)


def _matrix(sets: Sequence[frozenset[int]], label_id: Ints) -> tuple[Bools, Bools]:
    """Which labels each set has, bool [n, n_labels], and whether it has one that is none of them, bool [n]."""
    Y, strange = np.zeros((len(sets), len(label_id)), bool), np.zeros(len(sets), bool)
    place = {int(label): column for column, label in enumerate(label_id)}
    for row, labels in enumerate(sets):
        columns = [place[label] for label in labels if label in place]
        Y[row, columns] = True
        strange[row] = len(columns) < len(labels)
    return Y, strange
