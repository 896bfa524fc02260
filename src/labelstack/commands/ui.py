"""`labelstack ui`: the MLflow UI over the store of params.yaml."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from labelstack.params import load_params
from labelstack.stages.common import ROOT
from labelstack.support.errors import UserError
from labelstack.tracking import store
from labelstack.tracking.runs import artifact_place, connect
from labelstack.tracking.views import save_view, view_url


def run(host: str, port: int) -> None:
    """Become the MLflow server process; raise ``UserError`` when the store is a server of its own."""
    params = load_params()
    tracking, root = params.tracking, store.main_root(ROOT)
    uri = store.resolve_uri(tracking.uri, root)
    if uri.startswith("http"):
        raise UserError(f"{store.public_uri(uri, root)} is a server already: open it in the browser")
    artifacts = artifact_place(tracking, root)
    # Not an argument: a database's may hold a password, and `ps` shows those.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri
    print(f"MLflow UI: http://{host}:{port} (Ctrl-C ends it)", flush=True)
    with suppress(UserError):  # no store yet, or none that answers, which the server will say itself
        tracker = connect(tracking, create=False)
        if tracker.experiment_id:
            save_view(tracker, params.metric)
            print(f"Runs by score: {view_url(tracker.experiment_id, f'http://{host}:{port}')}", flush=True)
    arguments = ["--default-artifact-root", artifacts, "--host", host, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])  # noqa: S606
