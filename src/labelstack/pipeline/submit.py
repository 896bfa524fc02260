"""Stage `submit`: the competition's file, one row for every test image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelstack import storage
from labelstack.formats.manifest import read_manifest
from labelstack.formats.submission import write_submission
from labelstack.params import load_params
from labelstack.pipeline import paths
from labelstack.pipeline.common import done, label_table, load_decision
from labelstack.pipeline.decisions import label_sets
from labelstack.predictions import read_predictions


def run() -> None:
    """Write the submission from the blend's test predictions and thresholds."""
    params = load_params()
    image_id = read_manifest(paths.manifest("test"))["image_id"].to_numpy(np.int64)
    decision = load_decision(paths.ENSEMBLE / "thresholds.json")
    chosen, missing = label_sets(params, read_predictions(paths.BLENDED / "test.npz"), decision, image_id)
    label_id = label_table()["label_id"].to_numpy()
    path = Path(params.submission.directory) / params.submission.filename
    write_submission(path, image_id, [label_id[row].tolist() for row in chosen])
    storage.write_json(
        paths.METRICS / "submission.json",
        {
            "rows": len(image_id),
            "not_downloaded": missing,
            "labels_per_image": round(float(chosen.sum(1).mean()), 4),
            "blank": int((~chosen.any(1)).sum()),
            "sha256": storage.sha256(path),
        },
    )
    done("submit", f"{len(image_id)} rows, {missing} of them answered without an image", path)
