"""Stage `submit_masks@{name}`: masks of test photos, with attributes where the metric gains by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.formats.instance_labels import InstanceLabels
from labelstack.formats.manifest import read_manifest
from labelstack.formats.mask_submission import SIDE
from labelstack.formats.submission import read_form
from labelstack.masks.class_map_table import map_categories
from labelstack.masks.instance_table import categories_of
from labelstack.params import Params, load_params
from labelstack.params.region_rows import RegionRowsSection
from labelstack.predictions import read_predictions
from labelstack.scoring.attribute_rule import (
    SETS,
    FoundPairs,
    Rule,
    Written,
    as_written,
    choose_rule,
    counted_right,
    photo_scores_of,
    written,
)
from labelstack.scoring.bootstrap import interval_of_mean
from labelstack.stages import paths
from labelstack.stages.category_names import category_names
from labelstack.stages.common import done, known
from labelstack.stages.label_sets import load_decision
from labelstack.stages.members import THE_BLEND
from labelstack.stages.photos import PhotoPlaces, photo_places
from labelstack.stages.rows import label_table
from labelstack.stages.work.masks_of_photos import Attributes, Writing, found_in, write_checked
from labelstack.stages.work.pixel_scores import counts_of_maps, told_scores
from labelstack.support import storage
from labelstack.support.errors import UserError

Floats = NDArray[np.float64]


def run(name: str) -> None:
    """Write submission/masks.csv, read it back as the server would, and write metrics/masks.json."""
    params = load_params()
    known(name, params.regions, "section of regions")
    section, place = params.rows_of_regions, photo_places(params)
    side = SIDE if section is None else section.size
    out_of_fold, of_test = (Attributes.none(),) * 2 if section is None else (_out_of_fold(), _of_test())
    train = read_manifest(place.manifest("train"))["image_id"].to_numpy(np.int64)
    found = found_in(train, place.instances, paths.regions("train"), side, out_of_fold)
    rule = _rule(found, section)
    form = read_form(place(paths.SUBMISSION_FORM))
    if form.texts is None:
        raise UserError(f"{place(paths.SUBMISSION_FORM)}: holds no names of photos: run `dvc repro` again")
    names, path = list(form.texts.image), paths.masks_file(params.submission.directory)
    writing = Writing(names, form.image_id, paths.regions("test"), of_test, rule, side, _kinds(place, train))
    handed_in = write_checked(path, writing, place.true_instances)
    scored = _scores(_cross_fitted(params, section, train, found), params.seed)
    content = {
        "out_of_fold": scored,
        "test": _scores(handed_in.scores, params.seed) if handed_in.scores else None,
        "test_segmentation": _segmentation(params, place.true_instances),
        "rule": {str(one): {"set": SETS[how.set], "least": round(how.least, 6)} for one, how in sorted(rule.items())},
        "photos": {"train": len(train), "test": len(names)},
        "instances": handed_in.instances,
        "with_attributes": handed_in.with_attributes,
        "nothing_found": handed_in.nothing_found,
        "sha256": storage.sha256(path),
    }
    storage.write_json(paths.MASK_SCORES, content)
    storage.write_json(paths.attribute_rule(params.submission.directory), as_written(rule))
    told = scored["with_attributes"]["score"]
    done("submit_masks", f"{handed_in.instances} masks in {len(names)} photos; out of fold {told:.4f}", path)


def _segmentation(params: Params, truth: Path) -> dict[str, Any] | None:
    """How right the class maps of test photos are, as metrics/segmentation.json says it of train; None: no answers."""
    counts = counts_of_maps(paths.CLASS_MAPS, truth, params.dataset.instances.on_top)
    if counts is None or not len(counts):
        return None
    names = category_names(params, map_categories(paths.CLASS_MAPS))
    return {"photos": len(counts)} | told_scores(counts, names, params.seed)


def _kinds(place: PhotoPlaces, photos: NDArray[np.int64]) -> InstanceLabels:
    """What may stand in the file: categories that train's photos have, attributes of the data set."""
    train = categories_of(place.instances, photos).tolist()
    attributes = pd.read_parquet(place(paths.LABELS))["label_id"].tolist()
    named = ({int(one): str(one) for one in ids} for ids in (train, attributes))
    return InstanceLabels("the data set", *named)


def _out_of_fold() -> Attributes:
    """Of train's regions: label sets by rules, and probabilities of networks, that saw nothing of their photos."""
    predictions = read_predictions(THE_BLEND.oof)
    sets = read_predictions(THE_BLEND.cross_fitted).rows_of(predictions.image_id)
    return Attributes(label_table()["label_id"].to_numpy(np.int64), predictions, sets > 0)


def _of_test() -> Attributes:
    predictions, label_id = read_predictions(THE_BLEND.test), label_table()["label_id"].to_numpy(np.int64)
    return Attributes(label_id, predictions, load_decision(THE_BLEND.rule).decide(predictions.probability))


def _rule(found: FoundPairs, section: RegionRowsSection | None) -> Rule:
    if section is None or section.attributes == "never":
        return {}
    if section.attributes == "as_decided":
        return {int(one): Written(0, 0.0) for one in np.unique(found.category)}
    return choose_rule(found)


def _cross_fitted(
    params: Params, section: RegionRowsSection | None, photos: NDArray[np.int64], found: FoundPairs
) -> dict[str, Floats]:
    """Scores of train's photos, float64 [n] each: every photo by a rule that was chosen on the other folds' photos."""
    table = pd.read_parquet(paths.PHOTO_FOLDS).set_index("image_id")["fold"]
    folds = table.reindex(photos, fill_value=-1).to_numpy(np.int64)  # none of photos that are not there
    chosen = np.full(len(found.photo), -1, np.int64)
    for fold in range(params.folds.k):
        own = folds[found.photo] == fold
        rule = _rule(found.where(folds != fold), section)
        chosen[own] = written(rule, found.category[own], found.chance[own])
    never, always = np.full(len(chosen), -1, np.int64), np.where(found.chance[:, 0] >= 0, 0, -1)
    told = {"with_attributes": chosen, "without_attributes": never, "as_decided": always}
    scores = {name: photo_scores_of(found, counted_right(found, sets)) for name, sets in told.items()}
    return scores | {"categories_alone": photo_scores_of(found, np.ones(len(chosen), bool))}


def _scores(scores: dict[str, Floats], seed: int) -> dict[str, dict[str, float]]:
    """Means over photos with their 95 % bootstrap intervals, and what attributes gain."""
    gain = {"gain": scores["with_attributes"] - scores["without_attributes"]}
    intervals = {name: interval_of_mean(values, seed=seed) for name, values in (scores | gain).items()}
    return {name: {key: round(value, 6) for key, value in found._asdict().items()} for name, found in intervals.items()}
