"""Where MLflow keeps its data: the address from params, the client, and errors as ``UserError``."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from labelstack.errors import UserError
from labelstack.tracking.texts import without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DATABASES = ("postgresql", "mysql", "mssql")
_REACH_SECONDS = 5
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "GIT_PYTHON_REFRESH": "quiet",
}


def resolve_uri(uri: str, root: Path) -> str:
    """The tracking URI to use: ``MLFLOW_TRACKING_URI`` before ``uri``; relative sqlite files lie under ``root``.

    Raises
    ------
    UserError
        When the address is neither ``sqlite:///file``, another database, nor ``http(s)://…``.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or uri
    scheme = uri.partition("://")[0].lower()
    if scheme == "sqlite":
        path = uri.removeprefix("sqlite:///").removeprefix("/")
        if not uri.startswith("sqlite:///") or not path or path == ":memory:":
            raise UserError(f"tracking.uri {uri!r}: expected sqlite:///<file>, for example sqlite:///mlflow.db")
        return f"sqlite:///{sqlite_file(uri, root)}"
    if scheme in ("http", "https") and urlsplit(uri).hostname:
        return uri.rstrip("/")
    if scheme.partition("+")[0] in _DATABASES:
        return uri
    raise UserError(
        f"tracking.uri {without_credentials(uri)!r}: expected sqlite:///<file>, http(s)://<server>, "
        f"or a database URI ({', '.join(_DATABASES)})"
    )


def sqlite_file(uri: str, root: Path) -> Path:
    """The absolute path of a sqlite URI's file."""
    return (root.resolve() / uri.removeprefix("sqlite:///")).resolve()


def public_uri(uri: str, root: Path) -> str:
    """The resolved URI as files and tags may show it: no credentials, sqlite files relative to ``root``."""
    if uri.startswith("sqlite:///"):
        file = sqlite_file(uri, root)
        if file.is_relative_to(root.resolve()):
            return f"sqlite:///{file.relative_to(root.resolve()).as_posix()}"
    return without_credentials(uri)


@contextmanager
def explained(uri: str, doing: str) -> Iterator[None]:
    """Turn MLflow's exceptions into a ``UserError`` that names the store and what was being done."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        message = without_credentials(str(error).replace(uri, without_credentials(uri)).strip())
        raise UserError(f"MLflow at {without_credentials(uri)}: could not {doing}: {message}") from error


def open_client(uri: str) -> MlflowClient:
    """A client whose store was seen to answer; a new sqlite store gets its tables.

    Raises
    ------
    UserError
        Within seconds when a server doesn't answer, refuses the credentials, or the sqlite file is something else.
    """
    _prepare_environment()
    from mlflow import MlflowClient

    if not os.environ.get("MLFLOW_LOGGING_LEVEL"):
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
    registry = os.environ.get("MLFLOW_REGISTRY_URI") or uri
    if uri.startswith("http"):
        _check_server(uri)
    with explained(uri, "open the store"):
        if not uri.startswith("sqlite:///"):
            return MlflowClient(tracking_uri=uri, registry_uri=registry)
        file = Path(uri.removeprefix("sqlite:///"))
        _check_sqlite(file)
        with locked(file.parent):
            return MlflowClient(tracking_uri=uri, registry_uri=registry)


def _prepare_environment() -> None:
    """Short retries and no chatter, unless the user's environment says otherwise; read by MLflow at each call."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", str(sys.stderr.isatty()).lower())


def _check_server(uri: str) -> None:
    """Ask for the server's health once, with MLflow's own credentials and TLS settings."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    shown = without_credentials(uri)
    try:
        answer = http_request(
            get_default_host_creds(uri), "/health", "GET", max_retries=0, timeout=_REACH_SECONDS, raise_on_status=False
        )
    except (MlflowException, OSError) as error:
        raise UserError(
            f"MLflow at {shown}: no answer within {_REACH_SECONDS} s. Start the server, or set tracking.uri "
            "(or MLFLOW_TRACKING_URI) to one that runs; sqlite:///mlflow.db needs no server."
        ) from error
    if answer.status_code in (401, 403):
        raise UserError(
            f"MLflow at {shown}: access refused (HTTP {answer.status_code}). Set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    if answer.status_code >= 500:
        raise UserError(f"MLflow at {shown}: the server answers HTTP {answer.status_code}")


def _check_sqlite(file: Path) -> None:
    """Refuse a file that is no sqlite database at once: MLflow would retry for minutes."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab+") as handle:
            handle.seek(0)
            start = handle.read(16)
    except OSError as error:
        raise UserError(f"{file}: the MLflow database can't be written ({error.strerror})") from None
    if start not in (b"", b"SQLite format 3\x00"):
        raise UserError(f"{file}: not a sqlite database; move it away or change tracking.uri")


@contextmanager
def locked(folder: Path, patience: float = 60) -> Iterator[None]:
    """Hold an advisory lock on a folder: MLflow creates a sqlite store's tables without one."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(f"{folder}: another process holds the MLflow store for a minute") from None
                time.sleep(0.05)
            except OSError:  # a file system without locks on folders (some NFS): go on without
                break
        yield
    finally:
        os.close(handle)
