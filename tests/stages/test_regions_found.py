"""Garments with masks from the generator to tables of regions, by the real DVC; what segmenters need of params."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from labelstack.masks.class_map_table import class_map_groups, map_categories
from labelstack.masks.instance_table import masks_of
from labelstack.masks.region_writer import SCHEMA
from labelstack.masks.run_lengths import decode
from labelstack.params import Params
from labelstack.params.messages import explain
from labelstack.params.regions import RegionsSection
from labelstack.segmentation.mean_maps import mean_probabilities
from labelstack.stages.photos import whole_sources
from labelstack.tracking.run_file import read_run_json
from tiny import TINY, Workspace

PLAIN: dict[str, Any] = {
    "backbone": "small_cnn",
    "options": {"filters": [8, 8, 16], "convolutions": 1},
    "decoder": {"filters": [16, 8], "middle": False},
    "phases": [{"epochs": 2, "image_size": [64, 48], "batch_size": 4, "learning_rate": 0.01, "group_rates": [1, 1, 1]}],
}
CHANGE: dict[str, Any] = {
    "dataset": {
        "format": "imaterialist2019",
        "answers": "data/sample/test_answers.csv",
        "label_ids": None,
    },
    "sample": {"n_train": 40, "n_test": 12, "image_size": 64},
    "images": {"store_size": 64, "shard_rows": 10},
    "folds": {"k": 2},
    "base_models": [0, 1],
    "models": {"wide": TINY["models"]["wide"]},
    "stackers": {"mean": {"kind": "mean"}},
    "segmenters": {"plain": PLAIN},
    "regions": {"garments": {"size": [96, 64], "smallest": 0.002}},
}
TABLES = [f"data/regions/{split}.parquet" for split in ("train", "validation", "test")]
MAPS = "data/class_maps/test.parquet"


def stated(**change: Any) -> dict[str, Any]:
    """What has segmenters, as params.yaml states it."""
    content: dict[str, Any] = {
        "dataset": {"format": "imaterialist2019"},
        "base_models": [0, 1, 2, 3, 4],
        "models": {"wide": TINY["models"]["wide"]},
        "stackers": {"mean": {"kind": "mean"}},
        "segmenters": {"plain": PLAIN},
        "regions": {"garments": {}},
    }
    return content | change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dataset": {}}, "segmenters: learn from masks of instances, which imaterialist2019 has"),
        ({"base_models": ["all"]}, "segmenters: regions of train are found by networks that did not learn from"),
        ({"segmenters": {}}, "regions: come of segmenters, and there is none"),
        ({"regions": {}}, "regions: one section says what becomes of the segmenters' class maps, and there are none"),
        ({"regions": {"a": {}, "b": {}}}, "and there are a, b"),
        (
            {"regions": {"garments": {"segmenters": ["plane"]}}},
            "garments.segmenters: unknown segmenter 'plane'",
        ),
        ({"regions": {"garments": {"segmenters": ["plain", "plain"]}}}, "plain stands there more than once"),
        ({"segmenters": {"a/b": PLAIN}}, "segmenters.a/b: a name is lower-case letters"),
        (
            {"segmenters": {"plain": {**PLAIN, "keep": "best"}}, "training": {"holdout": 0, "monitor": "holdout"}},
            "segmenters.plain.keep: best goes by held-out photos",
        ),
        ({"segmenters": {"plain": {**PLAIN, "classes": 47}}}, "segmenters.plain.classes: unknown key"),
    ],
)
def test_segmenters_that_do_not_fit_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        Params.model_validate(stated(**change))
    assert told in "\n".join(explain(error.value, Params))


def test_segmenters_that_fit_are_taken() -> None:
    params = Params.model_validate(stated(segmenters={"one": PLAIN, "two": PLAIN}))
    assert params.region_segmenters == ["one", "two"]
    assert params.segmenters["one"].of_classes(7).background_class == 6
    assert Params.model_validate(stated(segmenters={}, regions={})).regions_section is None


def test_photos_of_which_nothing_is_told_stand_alone() -> None:
    assert whole_sources(np.array(["", ""])) is None
    source = whole_sources(np.array(["a", "", "a", ""]))
    assert source is not None
    assert len(np.unique(source)) == 3
    assert source[0] == source[2] == "a"


class _Says:
    """In the place of a segmenter: what it says of each photo is known."""

    def __init__(self, said: Callable[[np.ndarray], np.ndarray]) -> None:
        self._said = said

    def predict_proba(self, images: Sequence[np.ndarray], *, flip: bool = False) -> Iterator[np.ndarray]:
        assert not flip
        return map(self._said, images)


def test_segmenters_of_several_sizes_have_one_mean() -> None:
    rng = np.random.default_rng(0)
    said = {
        (place, size): rng.dirichlet(np.ones(3), size).astype(np.float32)
        for place in (0, 1)
        for size in [(8, 6), (4, 4)]
    }
    photos = [np.full((5, 5, 3), place, np.uint8) for place in (0, 1)]
    section = RegionsSection(size=(20, 16))

    def one(size: tuple[int, int]) -> Any:
        return _Says(lambda photo: said[int(photo[0, 0, 0]), size])

    found = list(mean_probabilities([one((8, 6)), one((4, 4)), one((8, 6))], photos, section))
    for place, mean in enumerate(found):
        large = [cv2.resize(said[place, size], (16, 20)) for size in ((8, 6), (4, 4), (8, 6))]
        assert mean == pytest.approx(np.mean(large, axis=0), abs=1e-6)
        assert mean.shape == (20, 16, 3)


def kept(root: Path) -> dict[str, Any]:
    """What must not depend on kills."""
    found: dict[str, Any] = {name: (root / name).read_bytes() for name in [*TABLES, MAPS, "metrics/segmentation.json"]}
    for folder in sorted((root / "models/segmenters").glob("*/*")):
        name = folder.relative_to(root).as_posix()
        found[name] = read_run_json(folder / "run.json")["weights_digest"]
        found[f"{name} history"] = pd.read_csv(folder / "history.csv").drop(columns="seconds").to_csv()
    return found


@pytest.mark.long
@pytest.mark.slow
def test_regions_are_found_and_kills_change_nothing(tmp_path: Path) -> None:
    whole = Workspace(tmp_path / "whole", CHANGE)
    root = whole.root
    whole.repro("photo_folds", "download")
    killed = Workspace.existing(shutil.copytree(root, tmp_path / "killed"))
    assert {"segment@plain-0", "segment@plain-1", "regions@garments"} == whole.repro("regions")

    folds = pd.read_parquet(root / "data/photo_folds.parquet")
    assert sorted(folds["fold"].value_counts()) == [20, 20]
    tables = {name: pq.read_table(root / name) for name in TABLES}
    train = tables[TABLES[0]]
    for table in tables.values():
        assert table.schema.equals(SCHEMA)
        assert (table["score"].to_numpy() <= 1).all()
        assert (table["area"].to_numpy() >= 0.002 * 96 * 64).all()
    assert len(train)
    assert set(train["image_id"].to_pylist()) <= set(folds["image_id"])
    masks = masks_of(train)
    assert decode(masks.take([0])).shape == (1, 96, 64)
    scores = json.loads((root / "metrics/segmentation.json").read_text())
    assert (scores["train"]["photos"], scores["test"]["photos"]) == (40, 12)
    assert scores["train"]["regions"] == len(train)
    low, high = scores["train"]["intervals"]["pixel_accuracy_all"]
    assert low <= scores["train"]["pixel_accuracy_all"] <= high
    assert "pixel_accuracy" not in scores["test"]  # the answers are of who scores what is handed in
    maps = dict(one for group in class_map_groups(root / MAPS) for one in group)
    assert len(maps) == 12
    background = len(map_categories(root / MAPS))
    for region in tables[TABLES[2]].to_pylist()[:20]:
        assert (maps[region["image_id"]] != background).sum() >= 0.002 * 96 * 64
    pictures = [file.name for file in (root / "mlartifacts").rglob("epoch-*.png")]
    assert sorted(pictures) == ["epoch-0001.png"] * 2 + ["epoch-0002.png"] * 2

    def there(pattern: str) -> Callable[[], bool]:
        return lambda: any(killed.root.glob(f"data/work/{pattern}"))

    killed.kill_when(there("segment/plain-*/*/epoch-00001.npz"), "dvc", "repro", "regions")
    killed.run("labelstack", "recover")
    killed.kill_when(there("regions/garments/*/train-01.npz"), "dvc", "repro", "regions")
    assert not (killed.root / TABLES[0]).exists()
    killed.run("labelstack", "recover")
    assert killed.repro("regions") == {"regions@garments"}
    assert kept(killed.root) == kept(root)
