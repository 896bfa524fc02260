"""One segmenter: learns from the photos of all folds but one, and is scored on those of that one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from labelstack.images.shards.verify import check_shards
from labelstack.params import Params
from labelstack.params.messages import explain
from labelstack.params.segmenters import SegmenterSection
from labelstack.stacking.holdouts import hold_out
from labelstack.stages import paths
from labelstack.stages.fold_files import Fitted
from labelstack.stages.photo_maps import PhotoSet, photo_categories, photo_set
from labelstack.stages.photos import photo_places, read_photo_folds, whole_sources
from labelstack.support.errors import InputProblems
from labelstack.support.storage import replacing, replacing_dir, write_json

if TYPE_CHECKING:
    import keras
    import pandas as pd

Ids = NDArray[np.int64]
# (epoch from 1, its scores, the network, how it was trained, photos that it does not learn from)
OnEpoch = Callable[[int, dict[str, float], "keras.Model", SegmenterSection, "PhotoSet"], None]


@dataclass(frozen=True)
class TrainedSegmenter:
    """What training gave.

    Attributes
    ----------
    history : DataFrame, a row for each epoch
    weights_digest : of what was learnt, not of the file's bytes, which hold dates
    categories : int64 [classes − 1], of which class which is
    counts : int64 [3, classes], ``confusion.class_counts`` of the fold's photos at their own size, summed
    """

    history: pd.DataFrame
    weights_digest: str
    categories: Ids
    counts: NDArray[np.int64]


def compute(params: Params, name: str, fold: str, work: Path, on_epoch: OnEpoch) -> TrainedSegmenter:
    """Train ``segmenters.<name>`` and write its folder.

    That is model.keras, segmenter.json, classes.json, history.csv, and in phases/ what each phase ended with.

    Parameters
    ----------
    work : folder of the checkpoints, from which a killed attempt goes on
    """
    from labelstack.networks.inference import weights_digest
    from labelstack.segmentation.confusion import class_counts, confusion_matrix
    from labelstack.segmentation.segmenter import Segmenter

    places = photo_places(params)
    check_shards(places.shards("train"), params.images.verify, f"segment {name}-{fold}")
    categories = photo_categories(params)
    section = section_of(params, name, len(categories))
    asked = fitted_photos(params, int(fold))
    fit, held, own = (
        photo_set(params, "train", ids, categories, work)
        for ids in (asked.fit, asked.holdout, read_photo_folds().of(int(fold)))
    )
    judged = held if len(held.photos) else None
    segmenter = Segmenter(section, params.seed, work).fit(
        fit.photos,
        fit.maps,
        None if judged is None else (judged.photos, judged.maps),
        on_epoch=lambda epoch, scores, model: on_epoch(epoch, scores, model, section, judged or own),
    )
    counts = np.zeros((3, section.classes), np.int64)
    for truth, given in zip(own.maps, segmenter.predict(own.photos), strict=True):
        counts += class_counts(confusion_matrix(truth, given, section.classes))
    folder = paths.segmenter(name, fold)
    segmenter.save(folder)
    with replacing_dir(folder / "phases") as phases:
        for number in range(1, len(section.phases) + 1):
            shutil.copyfile(work / f"phase-{number}.keras", phases / f"phase-{number}.keras")
    write_json(folder / "classes.json", {"categories": categories.tolist(), "background": len(categories)})
    with replacing(folder / "history.csv") as temporary:
        segmenter.history_.to_csv(temporary, index=False)
    return TrainedSegmenter(segmenter.history_, weights_digest(segmenter.model_), categories, counts)


def section_of(params: Params, name: str, categories: int) -> SegmenterSection:
    """How a segmenter is trained, with the classes of the data set; raise ``InputProblems``."""
    try:
        return params.segmenters[name].of_classes(categories + 1)
    except ValidationError as error:
        raise InputProblems(f"segmenters.{name}", explain(error, SegmenterSection)) from None


def fitted_photos(params: Params, fold: int) -> Fitted:
    """Photos that the segmenters of a fold learn from, and those held out to judge epochs by.

    As `split` has it for networks: with ``training.monitor: fold`` the fold itself is held out, else
    ``training.holdout`` of the others.
    """
    folds = read_photo_folds()
    chosen, training = folds.fold != fold, params.training
    others = folds.image_id[chosen]
    if training.monitor == "fold":
        return Fitted(others, folds.of(fold))
    source = whole_sources(folds.source)
    held = hold_out(
        len(others),
        training.holdout,
        training.holdout_max,
        params.seed,
        None if source is None else source[chosen],
    )
    return Fitted(others[~held], others[held])
