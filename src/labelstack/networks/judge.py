"""How good a network is on rows that are held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.networks.checkpoint import Record
from labelstack.networks.tasks import Task
from labelstack.params.metric import MetricSection
from labelstack.scoring.metric import holdout_column, metric_of

Holdout = tuple[NDArray[np.uint8] | Callable[[], Iterable[NDArray[np.uint8]]], NDArray[Any]]


class Judge:
    """Scores answers for the holdout: the task's loss, and the metric.

    Label sets are those of the task, or those at the best single threshold.

    Parameters
    ----------
    answers : callable () → batches of float32 [b, n_labels], in the order of the holdout
    targets : 0/1 [m, n_labels]
    """

    def __init__(
        self,
        answers: Callable[[], Iterable[NDArray[np.float32]]],
        targets: NDArray[Any],
        metric: MetricSection,
        task: Task,
    ) -> None:
        self._answers = answers
        self._targets = np.asarray(targets).astype(bool)
        self._metric, self._task = metric_of(metric), task

    def __call__(self) -> Record:
        """``holdout_loss``, the metric's column and, of label sets, ``holdout_threshold``."""
        probability = np.concatenate(list(self._answers()))
        if len(probability) != len(self._targets):
            raise ValueError(f"the holdout gives {len(probability)} images for {len(self._targets)} rows of targets")
        if self._task.within is not None:
            probability = self._task.within(self._targets, probability)
        score, threshold = self._score(probability)
        found = {"holdout_loss": self._task.monitor(self._targets, probability), holdout_column(self._metric): score}
        return found if threshold is None else found | {"holdout_threshold": threshold}

    def _score(self, probability: NDArray[np.float32]) -> tuple[float, float | None]:
        if self._task.label_sets is None or self._metric.wants != "label_sets":
            return self._metric.on_holdout(self._targets, probability, self._task.held_out)
        return self._metric.score(self._targets, self._task.label_sets(probability)), None


def in_batches(images: Any, size: int) -> Callable[[], Iterable[NDArray[Any]]]:
    """What gives images (or features) batch by batch, each time anew."""
    if callable(images):
        return images
    return lambda: (images[start : start + size] for start in range(0, len(images), size))
