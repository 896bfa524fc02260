"""What a report shows: plain values that the pipeline fills and that the HTML page, figures and terminal read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from labelstack.scoring.threshold_curve import ThresholdCurve

Average = Literal["samples", "micro", "macro"]
Kind = Literal["base model", "stacker", "blend"]
AVERAGES: tuple[Average, ...] = ("samples", "micro", "macro")
LABEL_COLUMNS = ("label", "group", "support", "predicted", "precision", "recall", "f1", "threshold")


@dataclass(frozen=True)
class Scores:
    """One F-score in its three averages; None or NaN where it was not computed."""

    samples: float | None = None
    micro: float | None = None
    macro: float | None = None

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, float], key: str) -> Scores | None:
        """Pick three averages out of flat metrics by a key such as ``"{average}_f1_cross_fitted"``; None if absent."""
        found = {average: metrics.get(key.format(average=average)) for average in AVERAGES}
        return cls(**found) if any(value is not None for value in found.values()) else None

    def of(self, average: Average) -> float | None:
        """The score of one average, None instead of NaN."""
        value: float | None = getattr(self, average)
        return None if value is None or math.isnan(value) else float(value)


@dataclass(frozen=True)
class LeaderboardRow:
    """Everything the leaderboard says of one model.

    Parameters
    ----------
    fixed, cross_fitted, in_sample : Scores
        On validation: at the one fixed threshold; tuned on k-1 folds and scored on the other; tuned and scored on the
        same images.
    test, test_fixed : Scores, optional
        On the withheld answers, at tuned and at the fixed threshold.
    weight : float, optional
        Share in the blend.
    seconds : float, optional
        Wall time of training.
    """

    name: str
    kind: Kind
    fixed: Scores | None = None
    cross_fitted: Scores | None = None
    in_sample: Scores | None = None
    test: Scores | None = None
    test_fixed: Scores | None = None
    weight: float | None = None
    run_id: str | None = None
    run_url: str | None = None
    seconds: float | None = None

    def score(self, scoring: str, average: Average) -> float | None:
        """The score ``scoring`` (fixed, cross_fitted, in_sample, test, test_fixed) in one average, None if absent."""
        scores: Scores | None = getattr(self, scoring)
        return None if scores is None else scores.of(average)


@dataclass(frozen=True)
class GalleryLabel:
    """A label beside a gallery image: true, predicted, or both."""

    name: str
    true: bool
    predicted: bool
    probability: float | None = None

    @property
    def verdict(self) -> Literal["hit", "missed", "wrong"]:
        """Whether the prediction found the label, missed it, or is wrong to claim it."""
        return ("hit" if self.predicted else "missed") if self.true else "wrong"


@dataclass(frozen=True)
class GalleryItem:
    """One validation image (JPEG bytes) with its true and predicted labels and its own F-score."""

    image_id: int
    jpeg: bytes
    labels: tuple[GalleryLabel, ...]
    f1: float

    def count(self, verdict: str) -> int:
        """How many labels are ``hit``, ``missed`` or ``wrong``."""
        return sum(label.verdict == verdict for label in self.labels)


@dataclass(frozen=True)
class MLflowHint:
    """Where the runs are: tracking URI and experiment name."""

    uri: str
    experiment: str


@dataclass(frozen=True)
class DecisionRow:
    """One way from the blend's probabilities to labels, cross-fitted.

    Parameters
    ----------
    low, high : 95 % interval of the primary score, by bootstrap over images
    gain, gain_low, gain_high : paired difference of the primary score to the fixed threshold, and its interval
    chosen : whether new images are labelled by it
    """

    strategy: str
    scores: Scores
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    chosen: bool = False


@dataclass(frozen=True)
class Comparison:
    """Cross-fitted primary score of one row minus another's, with its 95 % paired bootstrap interval."""

    better: str
    other: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class ReportContent:
    """The whole report.

    Parameters
    ----------
    generated_from : mapping
        What the run started from, shown as it stands: git commit, params digest, data sizes.
    per_label : DataFrame
        Columns ``LABEL_COLUMNS``; ``support`` and ``predicted`` are counts on validation.
    curves : mapping of str to DataFrame
        Per base model: epoch, loss and, where known, holdout_loss, holdout_<average>_f<beta>, learning_rate.
    gallery : sequence of GalleryItem
        As ``pick_gallery`` orders it, best image first.
    n_validation : int
        Validation images that were scored.
    decisions : sequence of DecisionRow
        Every decision strategy on the same blend.
    comparisons : sequence of Comparison
        Blend against stackers against base models.
    score_name : str
        ``F1``, or ``F2`` when beta is 2.
    reproduce : sequence of str
        Shell commands that rebuild this report.
    """

    title: str
    generated_from: Mapping[str, object]
    leaderboard: Sequence[LeaderboardRow]
    per_label: pd.DataFrame
    curves: Mapping[str, pd.DataFrame]
    threshold_curve: ThresholdCurve | None
    blend_weights: Mapping[str, float]
    gallery: Sequence[GalleryItem]
    mlflow: MLflowHint
    n_validation: int
    notes: Sequence[str] = ()
    primary: Average = "samples"
    score_name: str = "F1"
    fixed_threshold: float = 0.3
    decisions: Sequence[DecisionRow] = ()
    comparisons: Sequence[Comparison] = ()
    reproduce: Sequence[str] = field(default=("make repro", "make ui"))

    def __post_init__(self) -> None:
        missing = [column for column in LABEL_COLUMNS if column not in self.per_label]
        if missing:
            raise ValueError(f"per_label lacks the column(s) {', '.join(missing)}")
        if not self.leaderboard:
            raise ValueError("the leaderboard has no rows")


def ranked(rows: Sequence[LeaderboardRow], primary: Average = "samples") -> list[LeaderboardRow]:
    """Rows by cross-fitted score, best first; rows without one come last, ties keep their order."""

    def key(row: LeaderboardRow) -> float:
        score = row.score("cross_fitted", primary)
        return math.inf if score is None else -score

    return sorted(rows, key=key)


def pick_gallery(f1: ArrayLike, n: int = 24) -> list[int]:
    """Positions of ``n`` images spread evenly over the ranking by ``f1`` [n_images], best first; all if fewer."""
    order = np.argsort(-np.asarray(f1, dtype=np.float64), kind="stable")
    picks = np.linspace(0, len(order) - 1, min(n, len(order))).round().astype(int)
    return [int(position) for position in order[picks]]


def gallery_item(
    image_id: int,
    jpeg: bytes,
    names: Sequence[str],
    true: ArrayLike,
    predicted: ArrayLike,
    probability: ArrayLike,
    f1: float,
) -> GalleryItem:
    """A gallery item from an image's rows [n_labels]; hits first, then missed, then wrong, the surest first."""
    truth, claim = np.asarray(true).astype(bool), np.asarray(predicted).astype(bool)
    chance = np.asarray(probability, dtype=np.float64)
    labels = [
        GalleryLabel(str(names[int(i)]), bool(truth[i]), bool(claim[i]), float(chance[i]))
        for i in np.flatnonzero(truth | claim)
    ]
    order = ("hit", "missed", "wrong")
    labels.sort(key=lambda label: (order.index(label.verdict), -(label.probability or 0)))
    return GalleryItem(int(image_id), jpeg, tuple(labels), float(f1))
