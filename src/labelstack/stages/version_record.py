"""What `register` keeps with a version: gathered from the stage outputs, for comparing and rebuilding."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelstack.ensemble.record import LABEL_IDS, ProbeImages, Record, RecordedPhotos
from labelstack.ensemble.region_form import AT_ONCE
from labelstack.formats.submission import Form, read_form
from labelstack.images.shards.shard_files import read_jpegs, shard_paths
from labelstack.images.view_table import read_view
from labelstack.params import Params
from labelstack.predictions import Predictions, read_predictions
from labelstack.stages import paths
from labelstack.stages.members import everyone, view_file
from labelstack.stages.photos import photo_places
from labelstack.stages.scored_sets import workspace_scored
from labelstack.support import storage
from labelstack.support.box import Boxes
from labelstack.support.errors import UserError

PROBE_PHOTOS = 8  # photos whose regions a rebuilt version finds again


def record(params: Params) -> Record:
    """Gather the record of the ensemble whose stages have run here.

    Raises
    ------
    UserError
        When a stage has not run yet; the message names the file that is absent.
    """
    written, form = storage.read_json(paths.METRICS / "submission.json"), read_form(paths.SUBMISSION_FORM)
    return Record(
        probe(params),
        test_predictions(params),
        workspace_scored(params),
        storage.read_json(paths.EVALUATION),
        paths.LABELS,
        form.image_id,
        {
            "filename": params.submission.filename,
            "sha256": written["sha256"],
            "rows": written["rows"],
            "not_downloaded": written["not_downloaded"],
            "header": list(form.header),
        }
        | _texts(form),
        test_name=None if form.texts is None else form.texts.image,
        boxes={name: test_boxes(name) for name in params.second_round},
        photos=photos(params),
        dtype=params.prediction.dtype,
    )


def photos(params: Params) -> RecordedPhotos | None:
    """What is kept of test photos where regions of these are the rows and segmenters found them."""
    section = params.rows_of_regions
    if section is None or params.regions_section is None:
        return None
    place = photo_places(params)
    form = read_form(place(paths.SUBMISSION_FORM))
    if form.texts is None:
        raise UserError(f"{place(paths.SUBMISSION_FORM)}: holds no names of photos: run `dvc repro` again")
    file = paths.masks_file(params.submission.directory)
    return RecordedPhotos(
        _batches(place.shards("test"), AT_ONCE, min(PROBE_PHOTOS, params.tracking.probe_images)),
        paths.regions("test"),
        form.image_id,
        list(form.texts.image),
        {"filename": file.name, "sha256": storage.sha256(file), "side": section.size},
    )


def _texts(form: Form) -> dict[str, str]:
    if form.texts is None:
        return {}
    ids = all(text == str(label) for label, text in form.texts.label.items())
    return {"separator": form.texts.separator} | ({"labels": LABEL_IDS} if ids else {})


def test_boxes(name: str) -> Boxes:
    """The part of each test image that a second-round model saw."""
    return read_view(view_file(name), "test")


def test_predictions(params: Params) -> dict[str, Predictions]:
    """Test predictions of every model, every stacker and the blend."""
    return {member.name: read_predictions(member.test) for member in everyone(params)}


def probe(params: Params) -> ProbeImages:
    """The first prediction batches of the test shards, until they hold ``tracking.probe_images`` images.

    Batches end with the shard, as in the stage `predict`.
    """
    return _batches(paths.shards("test"), params.prediction.batch_size, params.tracking.probe_images)


def _batches(folder: Path, size: int, least: int) -> ProbeImages:
    """The first batches of so many images of a folder of shards until they hold so many; batches end with the shard."""
    ids, images, batches = list[int](), list[bytes](), list[int]()
    for path in shard_paths(folder):
        shard = read_jpegs(path)
        there = [(int(i), data) for i, data in zip(shard.image_id, shard.jpeg, strict=True) if data is not None]
        for start in range(0, len(there), size):
            if len(ids) >= least:
                break
            batch = there[start : start + size]
            batches += [batches[-1] + 1 if batches else 0] * len(batch)
            ids += [image_id for image_id, _ in batch]
            images += [bytes(data) for _, data in batch]
    return ProbeImages(np.array(ids, np.int64), images, np.array(batches, np.int64))
