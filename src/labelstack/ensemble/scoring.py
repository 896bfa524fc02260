"""The application that `labelstack serve` starts."""

from __future__ import annotations

from typing import Any


def application() -> Any:
    """MLflow's scoring server (ASGI) for the model that this process's environment names; the models are loaded."""
    from mlflow.pyfunc.scoring_server.app import app

    return app
