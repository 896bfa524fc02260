"""`labelstack serve`: a registered ensemble behind MLflow's scoring server, its files compared before anything runs."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labelstack.commands.server import check_port
from labelstack.ensemble.integrity import Registered
from labelstack.ensemble.load_check import DIGEST
from labelstack.registry.fetched import fetch_checked
from labelstack.registry.versions import resolve
from labelstack.stages.common import ROOT, tracking_here
from labelstack.support.errors import UserError
from labelstack.tracking.runs import Tracker, connect

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

MAX_ROWS, MAX_BYTES = "LABELSTACK_MAX_ROWS", "LABELSTACK_MAX_REQUEST_BYTES"
TIMEOUT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
_MODEL_PATH = "__pyfunc_model_path__"  # where MLflow's scoring server looks for it
_APPLICATION = "labelstack.ensemble.guarded_app:app"


@dataclass(frozen=True)
class Bounds:
    """What one request may be: rows, bytes, seconds; None: as the environment says."""

    rows: int | None = None
    bytes: int | None = None
    seconds: int | None = None


def run(model: str | None, host: str, port: int, workers: int = 1, limits: Bounds = Bounds()) -> None:
    """Serve a version until a signal ends it.

    The version's files are copied into a folder of this process, compared with the registry's tags, and MLflow's
    scoring server answers with that copy; nothing of it runs before.

    Parameters
    ----------
    model : str, optional
        A registry version as ``resolve`` takes it; default: ``@champion``.
    host, port : str, int
        Where to listen.
    workers : int
        Processes that answer, each with the models in its memory.

    Raises
    ------
    UserError
        When there is no such version, a file of it is not the registered one, or the port is taken.
    """
    import uvicorn

    if problem := check_port(host, port):
        raise UserError(problem)
    tracker = connect(tracking_here(), ROOT, create=False)
    version = resolve(tracker, "@champion" if model is None else model)
    with tempfile.TemporaryDirectory(prefix="labelstack-serve-") as folder:
        os.environ.update(prepare(tracker, version, Path(folder), limits, os.environ))
        said = "files as registered" if os.environ.get(DIGEST) else "files not compared: it has no checksums"
        shown = f"[{host}]" if ":" in host else host
        print(
            f"serve: {version.name} v{version.version}, {said} → http://{shown}:{port}/invocations; Ctrl-C ends it.",
            flush=True,
        )
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again when it has ended
        try:
            uvicorn.run(_APPLICATION, host=host, port=port, workers=workers)
        finally:
            signal.signal(signal.SIGTERM, before)


def prepare(
    tracker: Tracker, version: ModelVersion, folder: Path, limits: Bounds, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Put a version's files, compared and read-only, into a folder; what the server's environment says of them.

    Raises
    ------
    ChangedError
        When a file of the version is not the registered one.
    """
    model = fetch_checked(tracker, version, folder / "version").model
    for file in [model, *model.rglob("*")]:
        file.chmod(0o500 if file.is_dir() else 0o400)
    registered = Registered.of(version.tags)
    told = {_MODEL_PATH: model.as_uri(), DIGEST: registered.digest if registered else ""}
    for name, limit in ((MAX_ROWS, limits.rows), (MAX_BYTES, limits.bytes), (TIMEOUT, limits.seconds)):
        told |= {} if limit is None else {name: str(limit)}
    return {TIMEOUT: inherited.get(TIMEOUT) or "60"} | told
