"""Registry versions made by hand: models that hold nothing but the record of what they were scored on."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelstack.ensemble.integrity import write_list
from labelstack.ensemble.log import LoggedEnsemble
from labelstack.registry.versions import DATA_TAG, Version, register
from labelstack.scoring.scored import Scored, write_scored
from labelstack.tracking.runs import Tracker

N, N_LABELS = 80, 6
TRUTH = np.random.default_rng(0).random((N, N_LABELS)) < 0.4


def sets(wrong: float, seed: int = 1) -> NDArray[np.bool_]:
    """Label sets of which a share is wrong; of one seed, the larger share is wrong wherever the smaller one is."""
    return TRUTH ^ (np.random.default_rng(seed).random((N, N_LABELS)) < wrong)


def scored(chosen: NDArray[np.bool_], truth: NDArray[np.bool_] = TRUTH, name: str = "blend") -> Scored:
    """The record of an ensemble that chose these label sets."""
    return Scored(np.arange(len(truth)), np.arange(N_LABELS) + 100, truth, {name: chosen})


class Logs:
    """Stores a model that holds hardly more than a record, and counts how often."""

    def __init__(self, tracker: Tracker, record: Scored | None = None) -> None:
        self.tracker, self.record, self.calls = tracker, record, 0

    def __call__(self) -> LoggedEnsemble:
        self.calls += 1
        client = self.tracker.client
        with self.tracker.run("register", "ensemble") as run, tempfile.TemporaryDirectory() as folder:
            model = client.create_logged_model(self.tracker.experiment_id, "ensemble", source_run_id=run.run_id)
            files = Path(folder) / "artifacts/ensemble"
            files.mkdir(parents=True)
            for file in (Path(folder) / "MLmodel", files / "ensemble.json"):
                file.write_text("{}")
            if self.record:
                write_scored(files / "record/scored.npz", self.record)
            whole = write_list(Path(folder))
            client.log_model_artifacts(model.model_id, folder)
            client.finalize_logged_model(model.model_id, "READY")
        return LoggedEnsemble(model.model_id, f"models:/{model.model_id}", run.run_id, f"files-{self.calls}", whole)


def registered(
    tracker: Tracker, digest: str, record: Scored | None = None, tags: Mapping[str, str] | None = None, name: str = "m"
) -> Version:
    """A version whose data tag is its record's digest, unless ``tags`` say otherwise."""
    data = {DATA_TAG: record.digest} if record else {}
    return register(tracker, name, digest, Logs(tracker, record), tags=data | dict(tags or {}))
