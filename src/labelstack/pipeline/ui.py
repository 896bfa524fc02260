"""`labelstack ui`: the MLflow UI over the store of params.yaml."""

from __future__ import annotations

import os
import sys

from labelstack.errors import UserError
from labelstack.params import load_params
from labelstack.pipeline.common import ROOT
from labelstack.tracking import store
from labelstack.tracking.runs import artifact_place


def run(host: str, port: int) -> None:
    """Become the MLflow server process; raise ``UserError`` when the store is a server of its own."""
    tracking, root = load_params().tracking, store.main_root(ROOT)
    uri = store.resolve_uri(tracking.uri, root)
    if uri.startswith("http"):
        raise UserError(f"{store.public_uri(uri, root)} is a server already: open it in the browser")
    artifacts = artifact_place(tracking, root)
    # Not an argument: a database's may hold a password, and `ps` shows those.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri
    print(f"MLflow UI: http://{host}:{port} (Ctrl-C ends it)", flush=True)
    arguments = ["--default-artifact-root", artifacts, "--host", host, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])  # noqa: S606
