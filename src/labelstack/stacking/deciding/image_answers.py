"""From predictions of some images to label sets of all that are asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstack.predictions import Predictions
from labelstack.stacking.deciding.decisions import Decision


def image_answers(
    predictions: Predictions, decision: Decision, image_id: NDArray[np.int64], unseen: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], int]:
    """Label sets bool [n, n_labels] of the images ``image_id`` int64 [n], and how many of them had no prediction.

    Parameters
    ----------
    unseen : bool [n_labels], the answer for an image without a prediction
    """
    present = np.isin(image_id, predictions.image_id)
    chosen = np.tile(unseen, (len(image_id), 1))
    if present.any():
        chosen[present] = decision.decide(predictions.rows_of(image_id[present]))
    return chosen, int((~present).sum())
