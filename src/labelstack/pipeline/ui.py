"""`labelstack ui`: the MLflow UI over the store of params.yaml."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from labelstack.errors import UserError
from labelstack.params import load_params


def run(host: str, port: int) -> None:
    """Become the MLflow server process; raise ``UserError`` when the store is a server of its own."""
    params = load_params()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or params.tracking.uri
    if uri.startswith(("http://", "https://")):
        raise UserError("tracking.uri is a server already: open it in the browser")
    artifacts = Path("mlartifacts").resolve().as_uri()
    print(f"MLflow UI: http://{host}:{port} (Ctrl-C ends it)", flush=True)
    arguments = ["--backend-store-uri", uri, "--default-artifact-root", artifacts]
    arguments += ["--host", host, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])  # noqa: S606
