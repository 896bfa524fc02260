"""run.json: what ties a DVC output to its MLflow run, readable where another tracking server is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelstack.support.errors import UserError
from labelstack.support.storage import read_json, write_json
from labelstack.tracking.run import Run

_KEYS = ("run_id", "name", "experiment", "experiment_id", "tracking_uri", "params_digest", "metrics", "tags")


def write_run_json(
    path: str | Path,
    run: Run,
    metrics: Mapping[str, float | None] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a run's identity and results.

    Parameters
    ----------
    metrics : mapping, optional
        Final figures besides (and before) those logged to the run; NaN and infinities become null.
    extra : mapping, optional
        Further keys, for example a digest of the weights; they may not hide the file's own keys.
    """
    hidden = sorted(set(extra or {}) & set(_KEYS))
    if hidden:
        raise ValueError(f"extra may not hold {', '.join(hidden)}")
    figures = dict(sorted((run.metrics | dict(metrics or {})).items()))
    content = {
        "run_id": run.run_id,
        "name": run.name,
        "experiment": run.tracker.experiment,
        "experiment_id": run.tracker.experiment_id,
        "tracking_uri": run.tracker.public_uri,
        "params_digest": run.params_digest,
        "metrics": {key: None if v is None or not math.isfinite(v) else float(v) for key, v in figures.items()},
        "tags": dict(sorted(run.tags.items())),
    }
    write_json(path, content | dict(extra or {}))


def read_run_json(path: str | Path) -> dict[str, Any]:
    """Read what ``write_run_json`` wrote; raise ``UserError`` when the file is absent or lacks a key."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a run file, expected a JSON object")
    lacking = [key for key in _KEYS if key not in content]
    if lacking:
        raise UserError(f"{path}: not a run file, it lacks {', '.join(lacking)}")
    return content
