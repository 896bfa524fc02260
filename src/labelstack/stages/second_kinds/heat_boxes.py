"""What a `crop` sees of each image where its first networks say it: a square about what they look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.images.heat_table import HeatMaps, as_stored
from labelstack.images.loader import shown_batches
from labelstack.images.pixels.tta import Looks
from labelstack.images.shards.shard_files import ok_ids, status_frame
from labelstack.params import Params
from labelstack.params.models import ModelSection
from labelstack.params.prediction_views import OneView
from labelstack.params.second_round import CropSection
from labelstack.stages import paths
from labelstack.stages.fold_files import Part, read_asked, read_fitted
from labelstack.stages.members import Network
from labelstack.stages.rows import named_rows
from labelstack.stages.second_kinds.kind import Seen
from labelstack.support.box import Box

Maps = NDArray[np.float32]


def heat_boxes(params: Params, section: CropSection) -> Seen:
    """Boxes of all rows that are learned from or predicted, the margin added, and maps of stacking rows.

    A row that a network did not learn from has its map from that one; audit and test rows the mean of the maps of all
    networks, as new images have it. Where there is one network on all of train, train's rows have theirs from it too.
    """
    from labelstack.networks.heatmaps import heatmaps_of, of_shape
    from labelstack.networks.inference import load_model

    assert section.heatmap is not None
    first, threshold = section.after[0], section.heatmap.threshold
    size = params.network(first, params.networks[0]).image_size
    boxes = _Boxes(size, threshold, section.margin)
    shared: dict[str, tuple[NDArray[np.int64], Maps]] = {}
    stacking: list[tuple[NDArray[np.int64], NDArray[np.uint8]]] = []
    for fold in params.networks:
        network = params.network(first, fold)
        asked = read_asked(fold).oof.split
        maps_of = heatmaps_of(load_model(Network(first, fold).weights))
        batch_size = params.prediction.batch_size
        for part in own_rows(params, fold, network.groups):
            for ids, maps in _maps(part, maps_of, network, batch_size):
                boxes.add(part.split, ids, maps)
                if part.split == asked:
                    stacking.append((ids, as_stored(maps)))
        for part in shared_rows(fold, network.groups):
            found = list(_maps(part, maps_of, network, batch_size))
            if not found:
                continue
            ids, maps = np.concatenate([ids for ids, _ in found]), np.concatenate([maps for _, maps in found])
            so_far = shared.get(part.split)
            shared[part.split] = ids, maps if so_far is None else so_far[1] + of_shape(maps, so_far[1].shape[1:])
    for split, (ids, maps) in shared.items():
        boxes.add(split, ids, maps)
    return Seen(boxes.of_split, _joined(stacking))


def _joined(parts: list[tuple[NDArray[np.int64], NDArray[np.uint8]]]) -> HeatMaps:
    """Maps of one shape, that of the first; folds may have networks of several backbones."""
    from labelstack.networks.heatmaps import of_shape

    if not parts:
        return HeatMaps(np.empty(0, np.int64), np.empty((0, 1, 1), np.uint8))
    shape = parts[0][1].shape[1:]
    maps = [of_shape(maps, shape) for _, maps in parts]
    return HeatMaps(np.concatenate([ids for ids, _ in parts]), np.concatenate(maps))


def own_rows(params: Params, fold: str, groups: list[str]) -> list[Part]:
    """Rows whose maps are this network's: of its fold, or, of the one network, those for the second level and train."""
    oof = read_asked(fold).oof
    own = [Part(oof.split, oof.of_groups(groups))]
    if params.by_fold:
        return own
    fitted = read_fitted(fold)
    train = named_rows("train", np.concatenate([fitted.fit, fitted.holdout])).of_groups(groups)
    return [Part("train", train.row_id), *own]


def shared_rows(fold: str, groups: list[str]) -> list[Part]:
    """Rows whose maps are the mean of all networks': audit and test rows."""
    asked = read_asked(fold)
    test = Part("test", ok_ids(paths.shards("test"))) if asked.test is None else asked.test
    return [Part(part.split, part.of_groups(groups)) for part in (asked.audit, test) if part is not None]


def _maps(
    part: Part, maps_of: Callable[[NDArray[np.uint8]], Maps], network: ModelSection, batch_size: int
) -> Iterator[tuple[NDArray[np.int64], Maps]]:
    looks = Looks((OneView(),), network.image_size, region=network.region_view)
    for ids, images in shown_batches(paths.shards(part.split), part.row_id, looks, batch_size):
        yield ids, maps_of(images)


class _Boxes:
    """Boxes by split and row id, from maps."""

    def __init__(self, size: int, threshold: float, margin: float) -> None:
        self.of_split: dict[str, dict[int, Box]] = {}
        self._size, self._threshold, self._margin = size, threshold, margin
        self._sides: dict[str, Any] = {}

    def add(self, split: str, ids: NDArray[np.int64], maps: Maps) -> None:
        from labelstack.networks.heatmaps import heat_box

        if split not in self._sides:
            self._sides[split] = status_frame(paths.shards(split)).set_index("image_id")[["width", "height"]]
        sides = self._sides[split].loc[ids].to_numpy().tolist()
        found = self.of_split.setdefault(split, {})
        for row, heat, (width, height) in zip(ids.tolist(), maps, sides, strict=True):
            if (box := heat_box(heat, self._size, width, height, self._threshold)) is not None:
                found[row] = box.widened(self._margin)
