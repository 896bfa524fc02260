"""The generated garments in the form of FashionAI 2018: files as the competition's, lengths in between, label noise."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from labelstack.formats.fashionai2018 import FORMAT
from labelstack.params.sample import SampleSection
from labelstack.sample import draw_attributes
from labelstack.sample.attribute_cuts import ALONG, BETWEEN, cut_of, letters
from labelstack.sample.labels import sample_outfit
from labelstack.sample.scene import photograph
from labelstack.support.fashionai_values import VALUES

SMALL = SampleSection(n_train=160, n_test=24, image_size=32, label_noise=0.25)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("attributes") / "sample"
    draw_attributes(root, SMALL, 3)
    return root


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def noted(path: Path) -> dict[str, str]:
    return {row[0]: row[2] for row in csv.reader(path.read_text().splitlines())}


def test_it_is_in_the_form_of_the_competition(drawn: Path) -> None:
    data = FORMAT.read(drawn)
    assert data.counts["images"] == {"train": 160, "test": 24, "validation": 0}
    assert data.counts["images_of_attribute"] == {key: {"train": 20, "test": 3} for key in VALUES}
    assert data.counts["images_with_maybe"]["train"] > 10
    assert data.manifests["train"]["name"].str.fullmatch(r"Images/[a-z_]+_labels/[0-9a-f]{32}\.jpg").all()
    truth = FORMAT.answers(drawn / "test_answers.csv", data.labels)
    assert set(truth["image_id"]) == set(data.manifests["test"]["image_id"])


def test_equal_seeds_give_equal_bytes_and_sizes_leave_other_photos_alone(drawn: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    draw_attributes(again, SMALL, 3)
    assert files(again) == files(drawn)
    draw_attributes(again, SMALL.model_copy(update={"n_train": 20, "n_test": 12}), 3)
    for name, content in files(again).items():
        if name.endswith(".jpg"):
            assert files(drawn)[name] == content
    less, more = (noted(root / "train/Annotations/label.csv") for root in (again, drawn))
    assert less.items() <= more.items()


def test_another_value_is_called_true_at_the_stated_rate(drawn: Path) -> None:
    given, true = noted(drawn / "train/Annotations/label.csv"), noted(drawn / "train_answers.csv")
    wrong = [given[path].index("y") != true[path].index("y") for path in true]
    assert np.mean(wrong) == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 160))
    assert all("m" not in given[path] for path, other in zip(true, wrong, strict=True) if other)


@pytest.mark.parametrize("key", VALUES)
def test_every_value_occurs_and_only_neighbours_are_maybe(key: str) -> None:
    cuts = [cut_of(key, np.random.default_rng([5, number])) for number in range(1500)]
    assert {cut.true for cut in cuts} == set(range(len(VALUES[key])))
    for cut in cuts:
        told = letters(key, cut.true, cut.maybe)
        assert len(told) == len(VALUES[key])
        assert told.count("y") == 1
        for place in cut.maybe:
            assert {VALUES[key][place], VALUES[key][cut.true]} in BETWEEN[key]
    shares = np.bincount([cut.true for cut in cuts], minlength=len(VALUES[key]))[1:] / len(cuts)
    assert shares == pytest.approx(0.94 / (len(VALUES[key]) - 1), abs=0.05)
    of_a_length = np.mean([bool(cut.maybe) for cut in cuts]) > 0.2
    assert of_a_length == ("_length_" in key)


def test_a_longer_skirt_shows_more_of_itself() -> None:
    key = "skirt_length_labels"
    outfit = sample_outfit(np.random.default_rng(0))
    cuts = sorted((cut_of(key, np.random.default_rng(number)) for number in range(60)), key=lambda cut: cut.size)
    cuts = [cut for cut in cuts if cut.true]
    hems = [
        max(piece.points[:, 1].max() for piece in cut.dress(outfit, False, np.random.default_rng(1))) for cut in cuts
    ]
    assert hems == sorted(hems)
    assert [ALONG[key].index(VALUES[key][cut.true]) for cut in cuts] == sorted(cut.true - 1 for cut in cuts)


@pytest.mark.parametrize("key", VALUES)
def test_values_look_different(key: str) -> None:
    """With the same outfit, pose, light and background, two values are two pictures."""
    outfit, seen = sample_outfit(np.random.default_rng(4)), {}
    for number in range(400):
        cut = cut_of(key, np.random.default_rng([9, number]))
        if cut.true not in seen:
            seen[cut.true] = photograph(outfit, 64, np.random.default_rng(2), cut.dress).astype(int)
    assert len(seen) == len(VALUES[key])
    pictures = list(seen.values())
    for place, one in enumerate(pictures):
        for other in pictures[:place]:
            assert (np.abs(one - other).max(axis=2) > 12).mean() > 0.004
