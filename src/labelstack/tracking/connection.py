"""A tracking store that answers, and the experiment in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

UI_BASE = "http://127.0.0.1:5000"


@dataclass(frozen=True)
class Connection:
    """An MLflow experiment that answers.

    Attributes
    ----------
    client : mlflow.MlflowClient
    uri : str
        The resolved tracking URI; may hold credentials. ``public_uri`` doesn't.
    root : Path
        The main workspace, also where a DVC experiment runs in a copy of it.
    """

    client: MlflowClient
    uri: str
    public_uri: str
    root: Path
    experiment: str
    experiment_id: str
    registered_model: str

    def url(self, run_id: str, ui_base: str | None = None) -> str:
        """A run's page in the MLflow UI (default: the tracking server, or the UI on loopback)."""
        base = ui_base or (self.public_uri if self.uri.startswith("http") else UI_BASE)
        return f"{base.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{run_id}"
