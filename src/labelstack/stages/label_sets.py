"""Decision rules on disk, and from predictions to answers for every image of a split, downloaded or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.predictions import Predictions
from labelstack.stacking.deciding.decisions import Decision
from labelstack.stacking.deciding.image_answers import image_answers
from labelstack.stages.rows import label_table
from labelstack.support import storage

if TYPE_CHECKING:
    import pandas as pd


def prior_labels(params: Params, labels: pd.DataFrame | None = None) -> NDArray[np.bool_]:
    """The answer for an image that nobody could download: labels at least as frequent in train as the fixed threshold.

    The most frequent label alone when none is that frequent or an image has exactly one; no label with
    ``submission.missing: blank``. ``labels`` is the label table, by default the one that lies here.
    """
    labels = label_table() if labels is None else labels
    if params.submission.missing == "blank":
        return np.zeros(len(labels), bool)
    counts = labels["n_train"].to_numpy(float)
    frequency = labels["train_frequency"].to_numpy(float)
    chosen = (frequency >= params.thresholds.fixed) & (not params.thresholds.exclusive)
    if not chosen.any():
        chosen[np.argmax(counts)] = True
    return chosen


def label_sets(
    params: Params,
    predictions: Predictions,
    decision: Decision,
    image_id: NDArray[np.int64],
    labels: pd.DataFrame | None = None,
) -> tuple[NDArray[np.bool_], int]:
    """Labels of every image in ``image_id``, bool [n, n_labels], and how many of them had no prediction."""
    return image_answers(predictions, decision, image_id, prior_labels(params, labels))


def probabilities(predictions: Predictions, image_id: NDArray[np.int64], labels: pd.DataFrame) -> NDArray[np.float32]:
    """Probabilities of every image in ``image_id``, float32 [n, n_labels]; train's frequencies where none is known."""
    present = np.isin(image_id, predictions.image_id)
    given = np.tile(labels["train_frequency"].to_numpy(np.float32), (len(image_id), 1))
    if present.any():
        given[present] = predictions.rows_of(image_id[present])
    return given


def save_decision(path: Path, label_id: NDArray[Any], decision: Decision) -> None:
    """Write a decision rule as JSON: its strategy, a threshold for each label id where it has such, and all of it."""
    thresholds = None
    if decision.thresholds is not None:
        # str of a float32 is the shortest text that reads back as the same float32
        values = decision.thresholds.astype(np.float32)
        thresholds = {str(int(i)): float(str(t)) for i, t in zip(label_id, values, strict=True)}
    content = {"strategy": decision.strategy, "thresholds": thresholds, "decision": decision.to_dict()}
    storage.write_json(path, content)


def load_decision(path: Path) -> Decision:
    """The decision rule that ``save_decision`` wrote."""
    return Decision.from_dict(storage.read_json(path)["decision"])
