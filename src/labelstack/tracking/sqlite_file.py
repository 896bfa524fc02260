"""The file of a sqlite store: it has its name only when it is whole, and is waited for while another process writes.

MLflow makes some fifty tables in as many steps, each for good at once: one that is killed meanwhile leaves a file in
which the next one fails ("table … already exists").
"""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

from labelstack.support.errors import UserError
from labelstack.tracking import sqlite_uri

LOCKED = "database is locked"  # sqlite's own words
_PATIENCE, _SILENT, _ONE_TRY = 60.0, 2.0, 1.0  # seconds
_STILL_SECONDS = 10.0  # a file without rows that changed so lately may be in the making
_FILLED_BY_MLFLOW = {"alembic_version", "workspaces"}  # tables that have rows in an empty store
_logger = logging.getLogger(__name__)


def wait_until_free(file: Path, patience: float | None = None) -> None:
    """Return when nobody writes to a sqlite file; one warning tells that it is waited.

    Parameters
    ----------
    patience : float, optional
        Seconds to wait; default: a minute.

    Raises
    ------
    UserError
        When another process writes for longer, or the file is damaged.
    """
    patience = _PATIENCE if patience is None else patience
    start, said = time.monotonic(), False
    while is_locked(file):
        waited = time.monotonic() - start
        if waited >= patience:
            raise UserError(
                f"{file}: {LOCKED}: another process has been writing to it for {patience:.0f} seconds. End that "
                "process (a sqlite shell, a copy, another `dvc repro`), and try again"
            )
        if waited >= _SILENT and not said:
            said = True
            _logger.warning("%s: another process writes to it; waiting for up to %.0f seconds", file, patience)
        time.sleep(0.05)


def is_locked(file: Path) -> bool:
    """Whether another process writes to a sqlite file now, and goes on for a second.

    Raises
    ------
    UserError
        When the file is damaged.
    """
    if not sqlite_uri.holds_something(file):
        return False
    try:
        with closing(sqlite3.connect(file, timeout=_ONE_TRY)) as database:
            database.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:  # what may only be read is MLflow's to refuse
        return LOCKED in str(error)
    except sqlite3.DatabaseError as error:
        raise _damaged(file, error) from None
    return False


def make_whole(uri: str, file: Path) -> None:
    """See that there is a store with all its tables; nothing is done to a file with a row of anybody's in it.

    Whoever calls this holds the folder's lock (``store.locked``).

    Parameters
    ----------
    uri : str
        Of ``file``, with its query.
    """
    if sqlite_uri.holds_something(file):
        if not _half_made(file):
            return
        aside = file.with_name(f"{file.name}.half-made")
        file.replace(aside)
        _logger.warning("%s: its making was interrupted; it is now %s, and a new one is made", file, aside.name)
    prefix = f"{file.name}.making-"
    for leftover in file.parent.glob(f"{prefix}*"):  # of killed processes: nobody else is in here
        leftover.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=prefix)
    os.close(handle)
    temporary = Path(name)
    try:
        _make(sqlite_uri.uri_of(temporary, uri))
        os.chmod(temporary, 0o644)
        if not sqlite_uri.holds_something(file):
            temporary.replace(file)
            return
    finally:
        for leftover in file.parent.glob(f"{temporary.name}*"):
            leftover.unlink(missing_ok=True)
    make_whole(uri, file)  # an `mlflow server` was faster


def _make(uri: str) -> None:
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # As a client makes it, MLflow's experiment Default included.
    made = SqlAlchemyStore(uri, DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
    made.engine.dispose()


def _half_made(file: Path) -> bool:
    """Whether a store's making ended before MLflow's first row, that of the experiment Default."""
    while _without_rows(file):
        still = time.time() - file.stat().st_mtime
        if not 0 <= still < _STILL_SECONDS:
            return True
        time.sleep(0.2)  # an `mlflow server` that makes it this moment
    return False


def _without_rows(file: Path) -> bool:
    try:
        with closing(sqlite3.connect(file)) as database:  # takes back what a killed process had not ended
            found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            names = {name for (name,) in found} - _FILLED_BY_MLFLOW
            quoted = ('"' + name.replace('"', '""') + '"' for name in sorted(names, key="experiments".__ne__))
            return not any(database.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in quoted)  # noqa: S608
    except sqlite3.OperationalError:  # locked again, or not ours to read: MLflow will say
        return False
    except sqlite3.DatabaseError as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> UserError:
    return UserError(
        f"{file}: the MLflow database is damaged ({error}). Put a copy of it in its place, or move it away"
    )
