"""Stage `submit_masks@{name}`: masks of test photos, with attributes where the metric gains by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.formats.instance_labels import InstanceLabels
from labelstack.formats.manifest import read_manifest
from labelstack.formats.mask_submission import SIDE, read_masks, write_masks
from labelstack.formats.submission import read_form
from labelstack.masks.instance_table import read_instances
from labelstack.params import Params, load_params
from labelstack.params.region_rows import RegionRowsSection
from labelstack.predictions import read_predictions
from labelstack.scoring.attribute_rule import Found, Rule, Written, choose_rule, counted_right, photo_scores_of, written
from labelstack.scoring.bootstrap import interval_of_mean
from labelstack.scoring.instance_precision import Instances, photo_scores
from labelstack.stages import paths
from labelstack.stages.common import done, known
from labelstack.stages.label_sets import load_decision
from labelstack.stages.members import THE_BLEND
from labelstack.stages.photos import PhotoPlaces, photo_places
from labelstack.stages.rows import label_table
from labelstack.stages.work.masks_of_photos import SETS, Attributes, found_in, photos_to_write, true_instances
from labelstack.support import storage
from labelstack.support.errors import UserError

FILE = "masks.csv"
METRICS = paths.METRICS / "masks.json"
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
    names, test = list(form.texts.image), paths.regions("test")
    path = Path(params.submission.directory) / FILE
    n = write_masks(path, names, photos_to_write(names, form.image_id, test, of_test, rule), side)
    given = read_masks(path, names, _kinds(place), side)
    handed_in = Instances(given.photo, given.category, given.attributes, given.masks)
    scored = _scores(_cross_fitted(params, section, train, found), params.seed)
    content = {
        "out_of_fold": scored,
        "test": _on_answers(place(paths.TRUE_INSTANCES), form.image_id, handed_in, side, params.seed),
        "rule": {str(one): {"set": SETS[how.set], "least": round(how.least, 6)} for one, how in sorted(rule.items())},
        "photos": {"train": len(train), "test": len(names)},
        "instances": n,
        "with_attributes": sum(map(bool, given.attributes)),
        "nothing_found": len(names) - len(np.unique(given.photo)) + len(given.photo) - n,
        "sha256": storage.sha256(path),
    }
    storage.write_json(METRICS, content)
    told = scored["with_attributes"]["score"]
    done("submit_masks", f"{n} masks in {len(names)} photos; out of fold {told:.4f}", path)


def _kinds(place: PhotoPlaces) -> InstanceLabels:
    """What may stand in the file: categories that train has, attributes of the data set."""
    train = np.unique(read_instances(place.instances)["category"].to_numpy()).tolist()
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


def _rule(found: Found, section: RegionRowsSection | None) -> Rule:
    if section is None or section.attributes == "never":
        return {}
    if section.attributes == "as_decided":
        return {int(one): Written(0, 0.0) for one in np.unique(found.category)}
    return choose_rule(found)


def _cross_fitted(
    params: Params, section: RegionRowsSection | None, photos: NDArray[np.int64], found: Found
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


def _on_answers(
    true: Path, photos: NDArray[np.int64], given: Instances, side: int, seed: int
) -> dict[str, dict[str, float]] | None:
    """Scores of the file itself on the true instances of test photos; None where nobody knows them."""
    if not len(read_instances(true)):
        return None
    truth, n = true_instances(photos, true, side), len(photos)
    bare: list[Any] = [frozenset[int]()] * len(given.photo)
    scores = {
        "with_attributes": photo_scores(truth, given, n),
        "without_attributes": photo_scores(truth, replace(given, attributes=bare), n),
        "categories_alone": photo_scores(truth, given, n, attributes=False),
    }
    return _scores(scores, seed)


def _scores(scores: dict[str, Floats], seed: int) -> dict[str, dict[str, float]]:
    """Means over photos with their 95 % bootstrap intervals, and what attributes gain."""
    gain = {"gain": scores["with_attributes"] - scores["without_attributes"]}
    intervals = {name: interval_of_mean(values, seed=seed) for name, values in (scores | gain).items()}
    return {name: {key: round(value, 6) for key, value in found._asdict().items()} for name, found in intervals.items()}
