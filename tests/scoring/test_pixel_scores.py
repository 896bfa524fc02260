"""Scores of class maps against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from labelstack.scoring.pixel_scores import class_iou, confusion, mean_iou, pixel_accuracy


def test_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    true, found = rng.integers(0, 5, (2, 3, 40, 30)).astype(np.uint8)
    counts = confusion(true, found, 5)
    assert np.array_equal(counts, confusion_matrix(true.ravel(), found.ravel(), labels=range(5)))
    assert class_iou(counts) == pytest.approx(jaccard_score(true.ravel(), found.ravel(), average=None))
    assert mean_iou(counts) == pytest.approx(jaccard_score(true.ravel(), found.ravel(), average="macro"))
    assert pixel_accuracy(counts) == pytest.approx((true == found).mean())
    assert np.array_equal(sum(confusion(a, b, 5) for a, b in zip(true, found, strict=True)), counts)


def test_by_hand() -> None:
    true, found = np.array([[0, 0, 1, 2]]), np.array([[0, 1, 1, 0]])
    counts = confusion(true, found, 4)  # class 2 is the background, class 3 occurs nowhere
    assert pixel_accuracy(counts, background=2) == pytest.approx(2 / 3)
    assert class_iou(counts)[:3].tolist() == pytest.approx([1 / 3, 1 / 2, 0])
    assert np.isnan(class_iou(counts)[3])
    assert mean_iou(counts) == pytest.approx((1 / 3 + 1 / 2) / 3)
    assert mean_iou(counts, background=2) == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_nothing_to_score() -> None:
    counts = confusion([2, 2], [2, 2], 3)
    assert np.isnan(pixel_accuracy(counts, background=2))
    assert np.isnan(mean_iou(counts, background=2))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        confusion([0, 1], [0], 2)
    with pytest.raises(ValueError, match="given: expected classes 0 … 1, found 0 … 2"):
        confusion([0, 1], [0, 2], 2)
