"""What segmenters found, in the report."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pyarrow as pa
import pytest

from labelstack.masks.region_writer import region_rows
from labelstack.masks.run_lengths import encode
from labelstack.report.html import render
from labelstack.report.region_tables import RegionReport, ShownPhoto, iou_rows, score_rows
from labelstack.stages.region_pages import drawn_regions, own_scores, spread
from report import made_up

SEGMENTATION = {
    "train": {
        "photos": 5,
        "regions": 9,
        "pixel_accuracy": 0.8,
        "mean_iou": 0.6,
        "intervals": {"pixel_accuracy": [0.7, 0.9], "mean_iou": [0.5, 0.7]},
        "class_iou": {"top": 0.5, "skirt": 0.75, "hat": None, "background": 0.9},
    },
    "validation": {"photos": 0, "regions": 0},
    "test": {"photos": 3, "regions": 4},
}
MASKS = {
    "out_of_fold": {
        "with_attributes": {"score": 0.31, "low": 0.2, "high": 0.4},
        "as_decided": {"score": 0.1, "low": 0.0, "high": 0.2},
        "gain": {"score": 0.01, "low": -0.01, "high": 0.02},
    },
    "test": None,
}


def test_scores_of_splits_whose_truth_is_known_have_their_intervals() -> None:
    rows = [(row.what, row.of, row.score, row.low, row.high) for row in score_rows(SEGMENTATION, MASKS)]
    assert rows == [
        ("pixel accuracy off background", "train, out of fold", 0.8, 0.7, 0.9),
        ("mean IoU over classes", "train, out of fold", 0.6, 0.5, 0.7),
        ("masks as handed in, with attributes", "train, out of fold", 0.31, 0.2, 0.4),
        ("what attributes gain", "train, out of fold", 0.01, -0.01, 0.02),
    ]
    assert len(score_rows(SEGMENTATION, None)) == 2


def test_withheld_test_photos_stand_beside_train_where_their_truth_is_known() -> None:
    test = {"pixel_accuracy": 0.7, "mean_iou": 0.4, "intervals": {}, "class_iou": {"top": 0.25, "background": None}}
    known = SEGMENTATION | {"test": test}
    assert [(row.of, row.score) for row in score_rows(known, None)][2:] == [
        ("test, withheld answers", 0.7),
        ("test, withheld answers", 0.4),
    ]
    splits, rows = iou_rows(known)
    assert splits == ["train, out of fold", "test, withheld answers"]
    assert rows == [("background", [0.9, None]), ("skirt", [0.75, None]), ("top", [0.5, 0.25]), ("hat", [None, None])]


def test_classes_stand_by_their_iou_and_those_without_one_last() -> None:
    splits, rows = iou_rows(SEGMENTATION)
    assert splits == ["train, out of fold"]
    assert rows == [("background", [0.9]), ("skirt", [0.75]), ("top", [0.5]), ("hat", [None])]


def found(*squares: tuple[int, int, int, int]) -> pa.Table:
    """Regions of photos: photo, category, left and side of squares in maps of 20 × 20."""
    batches = []
    for photo, category, left, side in squares:
        mask = np.zeros((1, 20, 20), bool)
        mask[0, :side, left : left + side] = True
        batches.append(region_rows(photo, np.array([category], np.int32), np.array([0.9], np.float32), encode(mask)))
    return pa.Table.from_batches(batches)


def test_a_photos_own_score_is_that_of_categories_alone() -> None:
    """Photo 7 is found whole, 3 as another category, 5 with one of two, 9 not at all: by hand 1, 0, 1/2, 0."""
    true = found((7, 1, 0, 10), (3, 1, 0, 10), (5, 1, 0, 8), (5, 2, 10, 8), (9, 1, 0, 5))
    given = found((7, 1, 0, 10), (3, 2, 0, 10), (5, 1, 0, 8))
    scores = own_scores(np.array([7, 3, 5, 9]), true, given, (20, 20))
    assert scores == pytest.approx([1, 0, 0.5, 0])


def test_photos_are_spread_over_all() -> None:
    assert spread(np.arange(5), 9).tolist() == [0, 1, 2, 3, 4]
    assert spread(np.arange(101), 5).tolist() == [0, 25, 50, 75, 100]


def test_photos_are_drawn_at_the_size_of_the_page_in_the_colours_of_their_categories() -> None:
    photo = cv2.imencode(".jpg", np.full((40, 40, 3), 128, np.uint8))[1].tobytes()
    drawn = cv2.imdecode(np.frombuffer(drawn_regions(photo, found((7, 8, 0, 10)), {8: 4}, {8: "skirt"}), np.uint8), 1)
    assert drawn.shape == (320, 320, 3)
    assert drawn[120, 80, 0] > drawn[120, 80, 2] + 30  # blue, the fifth colour, over grey
    assert abs(drawn[300, 300].astype(int) - 128).max() < 6


def test_the_page_shows_truth_beside_prediction_with_hostile_names() -> None:
    picture = made_up.picture(1)
    photos = [ShownPhoto(f"<b>{i}</b>.jpg", 1 - i / 10, picture, picture) for i in range(3)]
    photos.append(ShownPhoto("broken.jpg", 0.0, b"no", picture))
    splits, rows = iou_rows(SEGMENTATION)
    rows = [("<script>x</script>", [0.25]), *rows]
    shown = RegionReport(score_rows(SEGMENTATION, MASKS), rows, splits, photos, photos[::-1][:2], 1000)
    plain = made_up.brief()
    text = render(replace(plain, regions=shown)).decode()
    assert "&lt;b&gt;0&lt;/b&gt;.jpg" in text
    assert "<script>x" not in text
    assert text.count('alt="Predicted regions of') == 6
    assert text.count("image cannot be shown") >= 2
    assert "1,000 ranked train photos" in text
    assert "0.310" in text
    assert 'id="regions"' not in render(plain).decode()
