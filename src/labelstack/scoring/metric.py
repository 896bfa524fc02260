"""What a metric is: what it scores, how much of a score is chance, how it is optimised, and how its scores are called.

A new one is a subclass in a file of its own and a name in ``params.metric.METRICS``, or in the entry-point group
``labelstack.metrics`` of an installed package.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.params.metric import METRICS, MetricSection
from labelstack.scoring import f_resampling
from labelstack.scoring.attribute_rows import AttributeRows
from labelstack.scoring.f_resampling import Resampled
from labelstack.scoring.metrics import AVERAGES, Average, as_binary, f_beta, f_beta_per_image, per_label

Wants = Literal["label_sets", "probabilities", "rankings", "counts"]
Answers = NDArray[np.bool_]
Floats = NDArray[np.float64]

THRESHOLD_GRID = np.round(np.arange(0.05, 0.95, 0.05), 2)  # of one threshold for all labels

_KEY = re.compile(r"(?:test_|holdout_)?(?P<name>.+?)(?:_(?:at_fixed|(?:cross_fitted|in_sample)(?:_low|_high)?))?")
_F_KEY = re.compile(rf"(?:(?P<average>{'|'.join(AVERAGES)})_)?f(?P<beta>[0-9.]+(?:e-?\d+)?)")
_CHOSEN_FOR = "_cross_fitted_low"
_BESIDE_SCORES = ("holdout_loss", "holdout_threshold")


class Metric(ABC):
    """A score of what is given to rows with known answers; higher is better.

    ``Y`` is bool [n, n_labels] throughout. ``given`` is what ``wants`` says: bool [n, n_labels] (``label_sets``);
    float32 [n, n_labels] of which the values count (``probabilities``) or the order alone (``rankings``); numbers
    [n, c] that a score is computed from together with those of other rows (``counts``).

    Parameters
    ----------
    section : MetricSection
        Its ``primary`` is the metric's key.

    Attributes
    ----------
    wants : one of ``Wants``
    key : how columns, tags and files spell it, such as ``samples_f1``; for all but F-scores the name in params.yaml
    title : how a reader knows it, such as ``samples F1``
    name : of the family in a table's head, such as ``F1``
    short : in the head of a column of that table, such as ``samples``
    """

    wants: Wants

    def __init__(self, section: MetricSection) -> None:
        self.key = section.primary
        self._beta = float(section.beta)
        self.title = self.name = self.short = self.key.replace("_", " ")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), self.key))

    def __repr__(self) -> str:
        return f"<{self.title}>"

    @abstractmethod
    def score(self, Y: Answers, given: NDArray[Any]) -> float:
        """The score of all rows together."""

    def per_row(self, Y: Answers, given: NDArray[Any]) -> Floats | None:
        """Scores float64 [n] of which ``score`` is the mean; None where it is no such mean."""
        return None

    def counts(self, Y: Answers, P: NDArray[Any], asked: AttributeRows | None) -> NDArray[Any]:
        """Counts [n, c] of probabilities [n, n_labels]; ``ValueError`` where they are of something else.

        Parameters
        ----------
        asked : the label group that each row knows; None: all of them
        """
        raise ValueError(f"{self.title} is not scored from probabilities")

    def given(
        self, Y: Answers, labels: Answers | None, P: NDArray[Any] | None, asked: AttributeRows | None
    ) -> NDArray[Any]:
        """What it wants, out of label sets bool and probabilities float32 [n, n_labels]; ``asked`` as of ``counts``."""
        found = labels if self.wants == "label_sets" else P
        if found is None:
            raise ValueError(f"{self.title} is scored from {self.wants.replace('_', ' ')}")
        return self.counts(Y, found, asked) if self.wants == "counts" else found

    def strata(self, given: NDArray[Any]) -> NDArray[np.int64] | None:
        """What each row is resampled within, int64 [n]; None: all rows together."""
        return None

    def per_label(self, Y: Answers, given: NDArray[Any]) -> Floats | None:
        """Scores float64 [n_labels] of each label alone, 0 where there is nothing to score; None where none has one."""
        return None

    def influence(self, Y: Answers, given: NDArray[Any]) -> Floats | None:
        """What each row adds to the score, to first order, float64 [n]; None where that is not known."""
        return self.per_row(Y, given)

    def resampled(self, Y: Answers, given: NDArray[Any]) -> Resampled:
        """A function from how often each row occurs, float32 [draws, n], to the scores float64 [draws].

        The mean of resampled rows where there are such; otherwise one resample after the other, as long as that takes.
        """
        rows = self.per_row(Y, given)
        if rows is None:
            return lambda weights: np.array([self.score(Y[some], given[some]) for some in _rows(weights)], np.float64)
        return f_resampling.mean_of_rows(rows)

    def resampled_per_label(self, Y: Answers, given: NDArray[Any]) -> Resampled:
        """As ``resampled``, to the scores of each label, float64 [draws, n_labels]; one resample after the other."""
        return lambda weights: np.stack([self._labels(Y[some], given[some]) for some in _rows(weights)])

    @property
    def family(self) -> Sequence[Metric]:
        """The metrics that are shown together in its tables, itself among them: also what label sets are fitted for."""
        return [self, self.fits]

    @property
    def fits(self) -> FMetric:
        """The F-score that decision rules are fitted for: a submission needs label sets, whatever is optimised."""
        return FMetric("samples", self._beta)

    @property
    def decides(self) -> Metric:
        """The metric by which the best decision rule is chosen: itself where it scores label sets."""
        return self if self.wants == "label_sets" else self.fits

    @property
    def cross_fitted(self) -> str:
        """The key of its honest score, which everything is compared by, such as ``samples_f1_cross_fitted``."""
        return f"{self.key}_cross_fitted"

    def on_holdout(
        self, Y: Answers, P: NDArray[np.floating[Any]], asked: AttributeRows | None = None
    ) -> tuple[float, float | None]:
        """What probabilities [n, n_labels] score while nothing is decided, and at which single threshold, if any."""
        if self.wants != "label_sets":
            return self.score(Y, self.given(Y, None, P, asked)), None
        scores = [self.score(Y, threshold <= P) for threshold in THRESHOLD_GRID]
        best = int(np.argmax(scores))
        return scores[best], float(THRESHOLD_GRID[best])

    def objective(self, Y: Answers, *, asked: AttributeRows | None = None) -> Callable[[NDArray[np.float32]], float]:
        """What greedy blend weights make large: a score of probabilities [n, n_labels]; ``asked`` as of ``counts``."""
        return lambda P: self.on_holdout(Y, P, asked)[0]

    def checked(self, Y: ArrayLike, given: ArrayLike, name: str = "given") -> tuple[Answers, NDArray[Any]]:
        """Both as arrays; raise ``ValueError`` naming the argument that is not what the metric wants."""
        true = as_binary(Y, "Y")
        values = as_binary(given, name) if self.wants == "label_sets" else np.asarray(given)
        if values.ndim != 2 or len(values) != len(true) or (self.wants != "counts" and values.shape != true.shape):
            raise ValueError(f"{name} has shape {values.shape}, Y has {true.shape}: they must be equal")
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise ValueError(f"{name} must be numbers without NaN and infinity")
        return true, values

    def _labels(self, Y: Answers, given: NDArray[Any]) -> Floats:
        scores = self.per_label(Y, given)
        if scores is None:
            raise ValueError(f"{self.title} has no score of one label")
        return scores


class FMetric(Metric):
    """F-beta of label sets in one of three averages; rules that decide label sets are fitted for one of these.

    Parameters
    ----------
    average, beta : as of ``metrics.f_beta``
    """

    wants = "label_sets"

    def __init__(self, average: Average = "samples", beta: float = 1.0) -> None:
        if average not in AVERAGES:
            raise ValueError(f"average must be one of {', '.join(AVERAGES)}, not {average!r}")
        if not beta > 0:
            raise ValueError(f"beta must be above 0, not {beta}")
        self.average, self.beta = average, beta
        self.key = f"{average}_f{beta:g}"
        self.name, self.short = f"F{beta:g}", str(average)
        self.title = f"{average} {self.name}"

    def score(self, Y: Answers, given: NDArray[Any]) -> float:
        """F-beta."""
        return f_beta(Y, given, average=self.average, beta=self.beta)

    def per_row(self, Y: Answers, given: NDArray[Any]) -> Floats | None:
        """Of each image, where they are averaged."""
        return f_beta_per_image(Y, given, beta=self.beta) if self.average == "samples" else None

    def per_label(self, Y: Answers, given: NDArray[Any]) -> Floats:
        """Of each label, whatever the average."""
        return per_label(Y, given, self.beta)[f"f{self.beta:g}"]

    def influence(self, Y: Answers, given: NDArray[Any]) -> Floats:
        """An image's own F (samples), or its part in the counts of labels or of all."""
        return f_resampling.influence(Y, given, self.average, self.beta)

    def resampled(self, Y: Answers, given: NDArray[Any]) -> Resampled:
        """All resamples of a chunk at once."""
        return f_resampling.resampled(Y, given, self.average, self.beta)

    def resampled_per_label(self, Y: Answers, given: NDArray[Any]) -> Resampled:
        """All resamples of a chunk at once."""
        return lambda weights: f_resampling.of_labels(Y, given, weights, self.beta)

    @property
    def family(self) -> Sequence[FMetric]:
        """All averages of the same beta."""
        return [FMetric(average, self.beta) for average in AVERAGES]

    @property
    def fits(self) -> FMetric:
        """Itself."""
        return self

    def objective(
        self, Y: Answers, *, asked: AttributeRows | None = None, some: NDArray[np.int64] | None = None
    ) -> Callable[[NDArray[np.float32]], float]:
        """F at the best of the thresholds 0, 0.01, …, 0.99, found through histograms.

        ``some`` are the flat places of all cells that may reach 0.01; the function is then given their values alone.
        """
        return f_resampling.BestThreshold(Y, self.average, self.beta, some)


def f_metric(section: MetricSection) -> FMetric:
    """The F-score that a section of params.yaml names."""
    return FMetric(section.primary, section.beta)  # type: ignore[arg-type]


@cache
def metric_of(section: MetricSection) -> Metric:
    """The metric that a section of params.yaml names; raise ``UserError`` when its module cannot be imported."""
    found: Metric = METRICS.load(section.primary)(section)
    return found


def metric_of_key(key: str, beside: Iterable[str] = ()) -> Metric | None:
    """The metric of a score's key, such as ``samples_f1_cross_fitted`` or ``test_mean_average_precision``.

    Parameters
    ----------
    beside : keys of the same row: the F-score among them, where the key itself says nothing of beta

    Returns
    -------
    Metric, or None where no metric of that name is known here
    """
    whole = _KEY.fullmatch(key)
    if whole is None:
        return None
    if found := _F_KEY.fullmatch(whole["name"]):
        return _f_score(found)
    if whole["name"] in AVERAGES or whole["name"] not in METRICS:
        return None
    others = (_F_KEY.fullmatch(other.removesuffix("_cross_fitted")) for other in beside)
    beta = next((f.beta for other in others if other and (f := _f_score(other))), 1.0)
    return metric_of(MetricSection(primary=whole["name"], beta=beta))


def chosen_for(keys: Iterable[str]) -> Metric | None:
    """The metric that a row's rules were chosen for, out of the keys of its scores: the one that has an interval."""
    keys = list(keys)
    return next((found for key in keys if key.endswith(_CHOSEN_FOR) and (found := metric_of_key(key, keys))), None)


def family_name(metric: Metric) -> str:
    """What a table of a metric's family shows: ``F1``, or the names of all in it."""
    return ", ".join(dict.fromkeys(each.name for each in metric.family))


def holdout_column(metric: Metric) -> str:
    """The column of a training history that holds the score on the hold-out, by which the best epoch is chosen."""
    return f"holdout_{metric.key}"


def found_holdout_column(columns: Iterable[str]) -> str | None:
    """That column among others, whatever its metric; histories of old have ``holdout_f1``. None without a hold-out."""
    return next((name for name in columns if name.startswith("holdout_") and name not in _BESIDE_SCORES), None)


def holdout_score_name(column: str) -> str:
    """A hold-out column's score as readers know it: ``macro F2`` of ``holdout_macro_f2``."""
    found = metric_of_key(column)
    return column.removeprefix("holdout_").replace("_", " ") if found is None else found.title


def _f_score(found: re.Match[str]) -> FMetric | None:
    try:
        return FMetric(found["average"] or "samples", float(found["beta"]))  # type: ignore[arg-type]
    except ValueError:  # no number, or none above 0
        return None


def _rows(weights: NDArray[np.float32]) -> Iterable[NDArray[np.int64]]:
    """The rows of each resample, as often as they occur."""
    every = np.arange(weights.shape[1])
    return (np.repeat(every, times.astype(np.int64)) for times in weights)
