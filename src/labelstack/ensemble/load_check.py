"""The files of an MLflow model, compared with what was registered when an ensemble is loaded from where it lies.

MLflow has run its own loader, the entry script and the imports of ``code/`` by then: what these do is out of reach.
`labelstack serve` and `labelstack predict` compare before anything runs.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from labelstack.ensemble import integrity
from labelstack.ensemble.integrity import Registered
from labelstack.support.errors import UserError
from labelstack.tracking import sqlite_uri, store

DIGEST = "LABELSTACK_FILES_DIGEST"
_logger = logging.getLogger(__name__)


def check_loaded(folder: Path) -> None:
    """Compare the MLflow model that an ensemble's folder lies in with what was registered, if it lies in one.

    What was registered is, in this order: ``LABELSTACK_FILES_DIGEST`` (a version's tag ``labelstack.model_digest``, or
    ``labelstack.files_digest`` of one that has no other); the tags of the version that MLflow notes when it fetches
    ``models:/name/version``, where the registry of this process answers; else the lists among the files, which show
    what was damaged or changed carelessly, and a warning says so.

    Raises
    ------
    ChangedError
        That names the files.
    """
    model = folder.parent.parent
    if folder != model / integrity.ENSEMBLE or not (model / "MLmodel").exists():
        return
    registered = None
    if given := os.environ.get(DIGEST, "").strip():
        registered = Registered(given)
    elif (asked := integrity.fetched_as(model)) is not None:
        name, number = asked
        tags = _tags(name, number)
        registered = Registered.of(tags) if tags is not None else None
        if tags is not None and registered is None:
            _logger.warning("%s v%s was registered before files had checksums: they are not checked", name, number)
            return
    if registered is None:
        _logger.warning(
            "%s: its files are compared with the lists among them only; `labelstack serve` compares with the registry, "
            "and so does %s, the version's tag %s",
            model,
            DIGEST,
            integrity.MODEL_TAG,
        )
    integrity.check(model, registered, str(model))


def _tags(name: str, number: str) -> dict[str, str] | None:
    """A version's tags; None where the registry does not answer, or has no such version."""
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = mlflow.get_registry_uri()
    if sqlite_uri.is_sqlite(uri) and not sqlite_uri.holds_something(sqlite_uri.file_of(uri, Path())):
        return None  # MLflow would make one
    if not store.answers(uri):
        return None
    try:
        with store.explained(uri, f"read {name}/{number}"):
            return dict(mlflow.MlflowClient().get_model_version(name, number).tags)
    except (UserError, MlflowException):
        return None
