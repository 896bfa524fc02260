"""Generated garments from their files to a scored submission: format, shards, class maps, network, masks, metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelstack.formats.imaterialist2019 import Imaterialist2019Format
from labelstack.formats.instance_batches import instance_table
from labelstack.formats.mask_submission import FoundInstances, read_masks, write_masks
from labelstack.formats.text_id import text_ids
from labelstack.images.class_maps import StoredMaps, StoredPhotos
from labelstack.images.shards.fill import download_split
from labelstack.masks.instance_table import masks_of, write_instances
from labelstack.masks.painted_maps import ClassMaps
from labelstack.masks.run_geometry import resized
from labelstack.masks.run_lengths import encode_map
from labelstack.params.images import ImagesSection
from labelstack.params.sample import SampleSection
from labelstack.params.segmenters import DecoderSection
from labelstack.sample import draw_instances
from labelstack.sample.instances import CATEGORIES
from labelstack.scoring.instance_precision import Instances, instance_precision
from labelstack.segmentation.confusion import class_counts, confusion_matrix, pixel_scores
from labelstack.segmentation.segmenter import Segmenter
from segmentation.squares import phase, small

GARMENT, BACKGROUND, SIDE = 0, 1, 64


@pytest.mark.slow
def test_garments_are_found_and_handed_in(tmp_path: Path) -> None:
    root = tmp_path / "sample"
    draw_instances(root, SampleSection(n_train=80, n_test=20, image_size=48, label_noise=0), 5)
    form = Imaterialist2019Format(root=root)
    data = form.read(root)
    write_instances(tmp_path / "instances", data.instances)
    for split in ("train", "test"):
        download_split(data.manifests[split], tmp_path / split, ImagesSection(store_size=48), root)
    worn = dict.fromkeys(range(13), GARMENT)  # garments, not their parts
    photos = StoredPhotos(tmp_path / "train", data.manifests["train"]["image_id"])
    maps = StoredMaps(ClassMaps(tmp_path / "instances", photos.image_ids, worn, BACKGROUND), photos)
    section = small(phase(epochs=8, image_size=48), classes=2, decoder=DecoderSection(filters=(16, 8)))
    network = Segmenter(section, seed=1).fit(photos, maps)

    problems: list[str] = []
    rows, kinds = form.true_instances(root / "test_answers.csv", problems)
    assert problems == []
    assert kinds is not None
    ids = text_ids(rows.names, problems)
    answers = instance_table(rows.photo, rows.category, rows.attributes, rows.parts, ids)
    write_instances(tmp_path / "answers", answers)
    asked = StoredPhotos(tmp_path / "test", data.manifests["test"]["image_id"])
    true = StoredMaps(ClassMaps(tmp_path / "answers", asked.image_ids, worn, BACKGROUND), asked)
    found = list(network.predict(asked))
    matrix = sum(confusion_matrix(one, other, 2) for one, other in zip(true, found, strict=True))
    assert pixel_scores(class_counts(np.asarray(matrix)), BACKGROUND)["mean_iou"] > 0.5

    shirt = CATEGORIES.index("shirt, blouse")
    names = data.manifests["test"]["name"].tolist()
    by_id = dict(zip(asked.image_ids.tolist(), found, strict=True))
    handed_in = []
    for name, image_id in zip(names, data.manifests["test"]["image_id"].tolist(), strict=True):
        values, masks = encode_map(by_id[image_id], BACKGROUND)
        handed_in.append(FoundInstances(name, [shirt] * len(values), [[]] * len(values), masks))
    write_masks(tmp_path / "mine.csv", names, handed_in, SIDE)
    mine = Instances(*read_masks(tmp_path / "mine.csv", names, kinds, SIDE))

    place = {int(one): i for i, one in enumerate(data.manifests["test"]["image_id"])}
    chosen = np.flatnonzero(np.isin(answers["category"].to_numpy(), list(worn)))
    truth = Instances(
        np.array([place[one] for one in answers["image_id"].to_numpy()[chosen].tolist()], np.int64),
        np.full(len(chosen), shirt),  # whichever garment it is
        [frozenset[int]()] * len(chosen),
        resized(masks_of(answers), SIDE, SIDE).take(chosen),
    )
    told = instance_precision(truth, mine, len(names))
    assert instance_precision(truth, truth, len(names)).score == 1
    assert told.score > 0.1
