"""Records of the small ensembles, made by the same arithmetic as their members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensemble.ensembles import LABELS, VIEWS, rooms
from labelstack.ensemble.recompute import Batches, Members
from labelstack.ensemble.record import ProbeImages, Record
from labelstack.predictions import Predictions
from labelstack.scoring.scored import Scored
from labelstack.support.logits import Dtype, as_kept

WEIGHTS = {"stack": 0.5, "small": 0.25, "large": 0.25}
HERE = {"cpu": "a", "numpy": "1", "code": "x"}
N = 7  # test images; the last one could not be downloaded


def jpegs() -> list[bytes]:
    """Images as the small ensembles read them: a percentage for each of three labels."""
    random = np.random.default_rng(3)
    return [bytes(row) for row in random.integers(5, 95, (N - 1, 3), np.uint8)]


def members(change: Mapping[str, Any] | None = None, seen: list[int] | None = None) -> Members:
    """The small ensembles' members; ``change`` puts a function on predictions after some, ``seen`` gets batch sizes."""
    own, changed = rooms([]), dict(change or {})

    def altered(name: str, answer: NDArray[np.float32]) -> NDArray[np.float32]:
        return changed[name](answer) if name in changed else answer

    def network(name: str, fold: str) -> Any:
        def predict(batches: Batches) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            parts = [(ids, own.models[name]({VIEWS[name]: images})) for ids, images in batches]
            if seen is not None:
                seen.extend(len(ids) for ids, _ in parts)
            rows = np.concatenate([rows for _, rows in parts])
            return np.concatenate([ids for ids, _ in parts]), altered(name, rows)

        return predict

    def stacker(name: str) -> Any:
        return lambda cube: altered(name, own.stackers[name](cube))

    return Members(network, stacker, lambda jpeg, view, _: own.decode(jpeg, view))


def predictions(dtype: Dtype = "float32") -> dict[str, Predictions]:
    """Test predictions of every member and the blend, each as the files of the stages keep it."""
    own, ids = rooms([]), np.arange(100, 100 + N - 1)
    answers = {
        name: as_kept(own.models[name]({view: np.stack([own.decode(jpeg, view) for jpeg in jpegs()])}), dtype)
        for name, view in VIEWS.items()
    }
    answers["stack"] = as_kept(own.stackers["stack"](np.stack([answers["small"], answers["large"]], axis=1)), dtype)
    total = sum(WEIGHTS[name] * answers[name].astype(np.float64) for name in WEIGHTS)
    answers["blend"] = as_kept(np.asarray(total, np.float32), dtype)
    return {name: Predictions(ids, answer) for name, answer in answers.items()}


def scored(names: Iterable[str] = ("small", "large", "stack", "blend")) -> Scored:
    """Label sets of five validation images."""
    truth = np.eye(5, 3).astype(bool)
    chosen = {name: np.roll(truth, number, axis=0) for number, name in enumerate(names)}
    return Scored(np.arange(5), np.array([i for i, _ in LABELS]), truth, chosen)


def record(folder: Path, **change: Any) -> Record:
    """The record of the small ensemble; its label table is written into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    ids, names = [i for i, _ in LABELS], [name for _, name in LABELS]
    table = {"label_id": ids, "name": names, "n_train": [5, 3, 2], "train_frequency": [0.5, 0.3, 0.2]}
    pd.DataFrame(table).to_parquet(folder / "labels.parquet")
    content: dict[str, Any] = {
        "probe": ProbeImages(np.arange(100, 105), jpegs()[:5], np.array([0, 0, 0, 1, 1])),
        "predictions": predictions(),
        "scored": scored(),
        "evaluation": {"primary": "samples_f1_cross_fitted"},
        "labels": folder / "labels.parquet",
        "test_id": np.arange(100, 100 + N),
        "submission": {"filename": "s.csv", "sha256": "0" * 64, "rows": N, "not_downloaded": 1, "header": ["id", "x"]},
        "machine": HERE,
    }
    return Record(**content | change)
