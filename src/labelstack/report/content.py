"""What a report shows: plain values that the pipeline fills and that the HTML page, figures and terminal read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from labelstack.report.attribute_tables import Attribute, Cropped
from labelstack.report.region_tables import RegionReport
from labelstack.scoring.metric import FMetric, Metric
from labelstack.scoring.threshold_curve import ThresholdCurve

Kind = Literal["base model", "second round", "stacker", "blend"]
Scores = Mapping[str, float | None]  # by the metrics' keys; None or NaN where one was not computed
LABEL_COLUMNS = ("label", "group", "support", "predicted", "precision", "recall", "f1", "threshold")


@dataclass(frozen=True)
class LeaderboardRow:
    """Everything the leaderboard says of one model.

    Parameters
    ----------
    fixed, cross_fitted, in_sample : Scores
        At the one fixed threshold; tuned on k-1 folds and scored on the other; tuned and scored on the same images.
    audit : Scores, optional
        On images that nothing was learned from or chosen by.
    test, test_fixed : Scores, optional
        On the withheld answers, at tuned and at the fixed threshold.
    weight : float, optional
        Share in the blend.
    seconds : float, optional
        Wall time of training.
    flattered : bool
        Whether what taught it has seen the images that it is scored on.
    """

    name: str
    kind: Kind
    fixed: Scores | None = None
    cross_fitted: Scores | None = None
    in_sample: Scores | None = None
    audit: Scores | None = None
    test: Scores | None = None
    test_fixed: Scores | None = None
    weight: float | None = None
    run_id: str | None = None
    run_url: str | None = None
    seconds: float | None = None
    flattered: bool = False

    def score(self, scoring: str, key: str) -> float | None:
        """The score ``scoring``, a name of the scores above, by one metric; None if absent."""
        return known((getattr(self, scoring) or {}).get(key))


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
    """One scored image (JPEG bytes) with its true and predicted labels and its own F-score."""

    image_id: int
    jpeg: bytes
    labels: tuple[GalleryLabel, ...]
    f1: float
    name: str | None = None

    @property
    def called(self) -> str:
        """What people call the image: its name, or its number."""
        return str(self.image_id) if self.name is None else self.name

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
    scores : by the metric that decides and its family
    low, high : 95 % interval of that metric's score, by bootstrap over images
    gain, gain_low, gain_high : paired difference of that score to the fixed threshold, and its interval
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
class ServedRow:
    """A model that is registered alone, or the ensemble: how large it is, how fast, and as what it is registered."""

    name: str
    bytes: int
    images_per_second: float
    uri: str = ""


@dataclass(frozen=True)
class ReportContent:
    """The whole report.

    Parameters
    ----------
    generated_from : mapping
        What the run started from, shown as it stands: git commit, params digest, data sizes.
    per_label : DataFrame
        Columns ``LABEL_COLUMNS``; ``support`` and ``predicted`` are counts of scored images.
    curves : mapping of str to DataFrame
        Per base model: epoch, loss and, where known, holdout_loss, holdout_<key of a metric>, learning_rate.
    gallery : sequence of GalleryItem
        As ``pick_gallery`` orders it, best image first.
    n_validation : int
        Images that were scored.
    images : str
        Which those are, in words.
    decisions : sequence of DecisionRow
        Every decision strategy on the same blend.
    comparisons : sequence of Comparison
        Blend against stackers against base models.
    served : sequence of ServedRow
        Models that are registered alone and the ensemble; none where all are registered together only.
    metric : Metric
        What everything is compared by.
    attributes : sequence of Attribute
        Label groups, where rows know one each.
    crops : sequence of Cropped
        What second-round models see of some images.
    regions : RegionReport, optional
        What segmenters find in photos, where there are such.
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
    images: str = "validation images"
    notes: Sequence[str] = ()
    metric: Metric = field(default_factory=FMetric)
    fixed_threshold: float | None = 0.3
    decisions: Sequence[DecisionRow] = ()
    comparisons: Sequence[Comparison] = ()
    served: Sequence[ServedRow] = ()
    attributes: Sequence[Attribute] = ()
    crops: Sequence[Cropped] = ()
    regions: RegionReport | None = None
    reproduce: Sequence[str] = field(default=("make repro", "make ui"))

    def __post_init__(self) -> None:
        missing = [column for column in LABEL_COLUMNS if column not in self.per_label]
        if missing:
            raise ValueError(f"per_label lacks the column(s) {', '.join(missing)}")
        if not self.leaderboard:
            raise ValueError("the leaderboard has no rows")


def scores_of(found: Mapping[str, float], family: Sequence[Metric], form: str) -> Scores | None:
    """Scores by several metrics out of flat ones by a form such as ``"{}_cross_fitted"``; None if all are absent."""
    scores = {metric.key: found.get(form.format(metric.key)) for metric in family}
    return scores if any(value is not None for value in scores.values()) else None


def known(value: float | None) -> float | None:
    """A score, None instead of NaN."""
    return None if value is None or math.isnan(value) else float(value)


def ranked(rows: Sequence[LeaderboardRow], metric: Metric) -> list[LeaderboardRow]:
    """Rows by cross-fitted score, best first; then those without one, then flattered ones; ties keep their order."""

    def key(row: LeaderboardRow) -> tuple[bool, float]:
        score = row.score("cross_fitted", metric.key)
        return row.flattered, math.inf if score is None else -score

    return sorted(rows, key=key)


def best_score(rows: Sequence[LeaderboardRow], scoring: str, key: str) -> float | None:
    """The best of a column; flattered rows count on audit and test images alone."""
    rivals = rows if scoring in ("audit", "test", "test_fixed") else [row for row in rows if not row.flattered]
    return max((score for row in rivals if (score := row.score(scoring, key)) is not None), default=None)


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
    name: str | None = None,
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
    return GalleryItem(int(image_id), jpeg, tuple(labels), float(f1), name)
