"""Stage `regions@{regions}`: what segmenters find in photos, as a table of regions, and how right they are."""

from __future__ import annotations

import shutil
from typing import Any

from labelstack.params import load_params
from labelstack.stages import paths
from labelstack.stages.category_names import category_names
from labelstack.stages.code import chosen, kept_code_digest
from labelstack.stages.common import done, known, lineage, work_folder
from labelstack.stages.photos import photo_places
from labelstack.stages.work.find_regions import FoundRegions, compute
from labelstack.stages.work.pixel_scores import told_scores
from labelstack.support import storage


def run(name: str) -> None:
    """Write data/regions, data/class_maps, metrics/segmentation.json; a killed attempt is taken up where it stopped."""
    params = load_params()
    section, places = known(name, params.regions, "section of regions"), photo_places(params)
    models = [paths.segmenter(one, fold) for one in params.region_segmenters for fold in params.networks]
    photos = [places.shards(split) for split in paths.SPLITS]
    sections = {"regions": section, "on_top": params.dataset.instances.on_top}
    tags = lineage([*photos, places.instances, paths.PHOTO_FOLDS, *models], sections)
    work = work_folder("regions", name, tags, kept_code_digest("regions", *chosen(params, "regions", name)))
    found, categories = compute(params, section, work)
    names = category_names(params, categories)
    storage.write_json(paths.SEGMENTATION, {split: _scores(one, names, params.seed) for split, one in found.items()})
    shutil.rmtree(work)
    counts = ", ".join(f"{one.regions} in {one.photos} {split} photos" for split, one in found.items())
    done("regions", counts, paths.regions("train").parent)


def _scores(found: FoundRegions, names: list[str], seed: int) -> dict[str, Any]:
    """What metrics/segmentation.json says of a split."""
    content: dict[str, Any] = {"photos": found.photos, "regions": found.regions}
    return (
        content if found.counts is None or not len(found.counts) else content | told_scores(found.counts, names, seed)
    )
