"""The generated garments with masks: in the form of 2019, true to the drawn pixels, attributes left out at a rate."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from labelstack.formats.imaterialist2019 import Imaterialist2019Format
from labelstack.masks.instance_table import masks_of
from labelstack.masks.run_lengths import decode
from labelstack.params.sample import SampleSection
from labelstack.sample import draw_instances
from labelstack.sample.instances import CATEGORIES, attributes_of, category_of
from labelstack.sample.labels import sample_outfit
from labelstack.sample.scene import photograph, photograph_with_parts

SMALL = SampleSection(n_train=60, n_test=24, image_size=48, label_noise=0.3)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("instances") / "sample"
    draw_instances(root, SMALL, 3)
    return root


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rows(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))[1:]


def test_it_is_in_the_form_of_the_competition(drawn: Path) -> None:
    form = Imaterialist2019Format(root=drawn)
    data = form.read(drawn)
    assert data.counts["images"] == {"train": 60, "test": 24, "validation": 0}
    assert data.counts["labels"] == 46 + 12
    assert data.instances["height"].unique().to_pylist() == [48]
    truth = form.answers(drawn / "test_answers.csv", data.labels)
    assert set(truth["image_id"]) <= set(data.manifests["test"]["image_id"])
    assert "test_answers" not in (drawn / "train.csv").read_text()


def test_equal_seeds_give_equal_bytes_and_sizes_leave_other_photos_alone(drawn: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    draw_instances(again, SMALL, 3)
    assert files(again) == files(drawn)
    draw_instances(again, SMALL.model_copy(update={"n_train": 20, "n_test": 12}), 3)
    kept = rows(again / "train.csv")
    assert rows(drawn / "train.csv")[: len(kept)] == kept
    for name, content in files(again).items():
        if name.endswith(".jpg"):
            assert files(drawn)[name] == content


def test_attributes_are_left_out_at_the_stated_rate(drawn: Path, tmp_path: Path) -> None:
    draw_instances(tmp_path / "clean", SMALL.model_copy(update={"label_noise": 0.0}), 3)

    def noted(root: Path) -> int:
        return sum(row[4].count("_") for row in rows(root / "train.csv"))

    assert (tmp_path / "clean/test_answers.csv").read_bytes() == (drawn / "test_answers.csv").read_bytes()
    assert noted(drawn) / noted(tmp_path / "clean") == pytest.approx(0.7, abs=0.15)


def test_the_garments_mask_is_where_another_colour_changes_the_photo() -> None:
    agreeing = []
    for number in range(20):
        outfit = replace(sample_outfit(np.random.default_rng([number, 0])), pattern="", colours=("black",))
        image, masks = photograph_with_parts(outfit, 96, np.random.default_rng([number, 1]))
        assert np.array_equal(image, photograph(outfit, 96, np.random.default_rng([number, 1])))
        white = photograph(replace(outfit, colours=("white",)), 96, np.random.default_rng([number, 1]))
        difference = cv2.absdiff(image, white).max(axis=2)
        # light and camera scale all differences of a photo, noise is the same in both
        garment = difference > 0.35 * np.percentile(difference[masks["garment"]], 90)
        shared, either = (garment & masks["garment"]).sum(), (garment | masks["garment"]).sum()
        agreeing.append(shared / either)
    assert np.median(agreeing) > 0.9
    assert min(agreeing) > 0.7


def test_parts_lie_on_the_garment_and_nothing_hidden_is_masked() -> None:
    found = set[str]()
    for number in range(60):
        outfit = sample_outfit(np.random.default_rng([number, 0]))
        _, masks = photograph_with_parts(outfit, 64, np.random.default_rng([number, 1]))
        found |= masks.keys()
        for name, mask in masks.items():
            if name not in ("garment", "top") and not name.endswith("shoe"):
                assert (mask & masks["garment"]).sum() >= 0.8 * mask.sum(), name
        for other in ("top", "left shoe", "right shoe"):
            if other in masks:
                assert not (masks[other] & masks["garment"]).any()
    assert {"garment", "top", "left shoe", "left sleeve", "right sleeve", "belt", "pocket", "collar", "hood"} <= found


def test_masks_of_the_file_are_those_of_the_drawing(drawn: Path) -> None:
    data = Imaterialist2019Format().read(drawn)
    first = data.manifests["train"]["image_id"][0]
    table = data.instances.filter([one == first for one in data.instances["image_id"].to_pylist()])
    outfit = sample_outfit(np.random.default_rng([3, 0, 0, 0]))
    _, masks = photograph_with_parts(outfit, 48, np.random.default_rng([3, 0, 0, 1]))
    large = {name: mask for name, mask in masks.items() if mask.sum() >= 4}
    assert np.array_equal(decode(masks_of(table)), np.stack(list(large.values())))
    assert table["category"].to_pylist() == [category_of(name, outfit) for name in large]
    worn = table["attributes"].to_pylist()[list(large).index("garment")]
    assert set(worn) <= set(attributes_of(outfit))


def test_there_are_46_categories() -> None:
    assert len(set(CATEGORIES)) == 46
    assert (CATEGORIES[0], CATEGORIES[27], CATEGORIES[45]) == ("shirt, blouse", "hood", "tassel")
