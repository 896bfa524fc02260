"""Stage `submit`: the competition's file, one row for every test image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstack.formats.format import format_of
from labelstack.formats.submission import Form, read_form
from labelstack.formats.zipped import zipped_by_name
from labelstack.params import Params, load_params
from labelstack.predictions import Predictions, read_predictions
from labelstack.stages import paths
from labelstack.stages.common import done
from labelstack.stages.label_sets import label_sets, load_decision, probabilities
from labelstack.stages.members import THE_BLEND
from labelstack.stages.rows import label_table
from labelstack.support import storage

if TYPE_CHECKING:
    import pandas as pd

    from labelstack.stacking.deciding.decisions import Decision


def run() -> None:
    """Write the submission from the blend's test predictions and thresholds."""
    params = load_params()
    form = read_form(paths.SUBMISSION_FORM)
    decision = load_decision(THE_BLEND.rule)
    path = Path(params.submission.directory) / params.submission.filename
    blended = read_predictions(THE_BLEND.test)
    chosen, missing = write_labels(path, params, blended, decision, form, label_table())
    storage.write_json(
        paths.METRICS / "submission.json",
        {
            "rows": len(form.image_id),
            "not_downloaded": missing,
            "labels_per_image": round(float(chosen.sum(1).mean()), 4),
            "blank": int((~chosen.any(1)).sum()),
            "sha256": storage.sha256(path),
        },
    )
    done("submit", f"{len(form.image_id)} rows, {missing} of them answered without an image", path)


def write_labels(
    path: Path,
    params: Params,
    predictions: Predictions,
    decision: Decision,
    form: Form,
    labels: pd.DataFrame,
) -> tuple[NDArray[np.bool_], int]:
    """Write the submission of blended predictions; the labels chosen, bool [n, n_labels], and how many had no image.

    Where the format's competition asks for probabilities, an image without a prediction gets train's frequencies, or
    with ``submission.missing: blank`` zeros.
    """
    chosen, missing = label_sets(params, predictions, decision, form.image_id, labels)
    label_id, written = labels["label_id"].to_numpy(), format_of(params.dataset.format)
    write_probabilities = getattr(written, "write_probabilities", None)
    with zipped_by_name(path) as file:
        if write_probabilities is None:
            written.write_submission(file, form, [label_id[row].tolist() for row in chosen])
            return chosen, missing
        P = probabilities(predictions, form.image_id, labels)
        if params.submission.missing == "blank":
            P[~np.isin(form.image_id, predictions.image_id)] = 0
        write_probabilities(file, form, label_id, P)
    return chosen, missing
