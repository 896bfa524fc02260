"""`labelstack ui`: the MLflow UI over the store of params.yaml."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from labelstack.errors import UserError
from labelstack.params import load_params
from labelstack.tracking.runs import connect
from labelstack.tracking.views import save_view, view_url


def run(host: str, port: int) -> None:
    """Become the MLflow server process; raise ``UserError`` when the store is a server of its own."""
    params = load_params()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or params.tracking.uri
    if uri.startswith(("http://", "https://")):
        raise UserError("tracking.uri is a server already: open it in the browser")
    artifacts = params.tracking.artifacts or Path("mlartifacts").resolve().as_uri()
    os.environ["MLFLOW_BACKEND_STORE_URI"] = (
        uri  # not an argument: a database's may hold a password, and `ps` shows those
    )
    print(f"MLflow UI: http://{host}:{port} (Ctrl-C ends it)", flush=True)
    tracker = connect(params.tracking, create=False)
    if tracker.experiment_id:
        save_view(tracker, params.metric)
        print(f"Runs by score: {view_url(tracker.experiment_id, f'http://{host}:{port}')}", flush=True)
    arguments = ["--default-artifact-root", artifacts, "--host", host, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])  # noqa: S606
