"""Losses over pixels against plain NumPy, weights of classes, and counts of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sklearn_matrix
from sklearn.metrics import jaccard_score

import labelstack.networks  # noqa: F401 - quiets TensorFlow before it is imported
from labelstack.params.segmenters import PixelLossSection
from labelstack.segmentation.confusion import bootstrap_scores, class_counts, class_iou, confusion_matrix, pixel_scores
from labelstack.segmentation.pixel_loss import balanced_weights, pixel_loss

CLASSES = 4
WEIGHTS = np.array([0.5, 1, 2, 4], np.float32)


def example(seed: int = 0, ignored: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES - 1, (3, 4, 5)).astype(np.int32)  # the last class does not occur
    if ignored is not None:
        truth[0, :2] = truth[2] = ignored
    return truth, rng.normal(size=(3, 4, 5, CLASSES)).astype(np.float32)


def expected(section: PixelLossSection, truth: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> list[float]:
    """A loop over pixels."""
    losses = []
    for map_, answers in zip(truth, logits.astype(np.float64), strict=True):
        total, pixels = 0.0, 0
        both, given_, there = np.zeros(CLASSES), np.zeros(CLASSES), np.zeros(CLASSES)
        for class_, answer in zip(map_.ravel(), answers.reshape(-1, CLASSES), strict=True):
            if class_ == section.ignored:
                continue
            share = np.exp(answer) / np.exp(answer).sum()
            entropy, pixels = -np.log(share[class_]), pixels + 1
            total += weights[class_] * section.cross_entropy * entropy
            total += weights[class_] * section.focal * (1 - share[class_]) ** section.gamma * entropy
            both[class_], there[class_], given_ = both[class_] + share[class_], there[class_] + 1, given_ + share
        occurs = there > 0
        apart = 1 - 2 * both[occurs] / (given_[occurs] + there[occurs])
        losses.append((total / pixels if pixels else 0) + section.dice * (apart.mean() if occurs.any() else 0))
    return losses


@pytest.mark.parametrize("ignored", [None, 255])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(
    "parts",
    [{}, {"cross_entropy": 0, "dice": 1}, {"cross_entropy": 0, "focal": 1}, {"dice": 0.5, "focal": 2, "gamma": 1}],
)
def test_a_loss_is_that_of_a_loop_over_pixels(parts, weights, ignored) -> None:
    section = PixelLossSection(**parts, ignored=ignored)
    truth, logits = example(ignored=ignored)
    found = np.asarray(pixel_loss(section, weights)(truth, logits, None))
    one = np.ones(CLASSES) if weights is None else weights
    assert found == pytest.approx(expected(section, truth, logits, one), abs=1e-5)


def test_weights_are_the_root_of_the_median_frequency_with_a_mean_of_one() -> None:
    pixels = np.array([100, 400, 40_000, 0])
    weights = balanced_weights(pixels)
    assert (weights * pixels).sum() / pixels.sum() == pytest.approx(1)
    assert weights / weights[1] == pytest.approx([2, 1, 0.1, 1])
    with pytest.raises(ValueError, match="no pixels"):
        balanced_weights(np.zeros(3, int))


def test_losses_and_classes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one of cross_entropy, dice and focal"):
        PixelLossSection(cross_entropy=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_counts_and_iou_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, given_ = rng.integers(0, CLASSES, (2, 6, 7))
    matrix = confusion_matrix(truth, given_, CLASSES)
    labels = range(CLASSES)
    assert np.array_equal(matrix, sklearn_matrix(truth.ravel(), given_.ravel(), labels=labels))
    there = np.union1d(truth, given_)
    assert class_iou(class_counts(matrix))[there] == pytest.approx(
        jaccard_score(truth.ravel(), given_.ravel(), labels=there, average=None)
    )


def test_scores_of_a_photo_by_hand() -> None:
    truth = np.array([[0, 0, 1], [2, 2, 2], [255, 255, 2]])  # class 2 is background, 255 is ignored
    given_ = np.array([[0, 1, 1], [2, 0, 2], [0, 1, 2]])
    matrix = confusion_matrix(truth, given_, 4, ignored=255)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 3, 0], [0, 0, 0, 0]]
    scores = pixel_scores(class_counts(matrix), background=2)
    assert scores["pixel_accuracy"] == pytest.approx(2 / 3)
    assert scores["pixel_accuracy_all"] == pytest.approx(5 / 7)
    assert scores["mean_iou"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert scores["mean_iou_all"] == pytest.approx((1 / 3 + 1 / 2 + 3 / 4) / 3)
    assert np.isnan(class_iou(class_counts(matrix))[3])


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(2, 3\)"):
        confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 3), int), 3)
    with pytest.raises(ValueError, match="given: classes are 0 … 2, not 0 … 3"):
        confusion_matrix(np.zeros(2, int), np.array([0, 3]), 3)


def test_intervals_hold_the_score_and_narrow_with_more_photos() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (80, 10, 10))
    given_ = np.where(rng.random(truth.shape) < rng.random((80, 1, 1)), truth, rng.integers(0, 3, truth.shape))
    counts = class_counts(np.stack([confusion_matrix(t, g, 3) for t, g in zip(truth, given_, strict=True)]))
    score = pixel_scores(counts.sum(0), 2)["mean_iou"]
    low, high = bootstrap_scores(counts, 2, repeats=300)["mean_iou"]
    few_low, few_high = bootstrap_scores(counts[:10], 2, repeats=300)["mean_iou"]
    assert low < score < high
    assert high - low < few_high - few_low
