"""Where MLflow keeps its data: the address from params, the client, and errors as ``UserError``."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from labelstack.support.errors import UserError
from labelstack.support.storage import WITHOUT_CHECKSUMS
from labelstack.tracking import sqlite_file, sqlite_uri
from labelstack.tracking.texts import without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_REACH_SECONDS = 5
_TOO_MANY, _NOT_IMPLEMENTED = 429, 501
_logger = logging.getLogger(__name__)
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    # Artifacts go through the server: signed addresses lead to a store that may be out of reach from here.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PGCONNECT_TIMEOUT": "5",
    "GIT_PYTHON_REFRESH": "quiet",
}


def main_root(root: str | Path) -> Path:
    """The workspace that a DVC experiment's copy of it belongs to; any other folder itself.

    DVC runs queued and temporary experiments in copies below ``.dvc/tmp/exps`` and drops these afterwards.
    """
    root = Path(root).resolve()
    parts = root.parts
    for i in range(len(parts) - 3):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            parent = os.environ.get("DVC_ROOT", "")
            inside = parent and root.is_relative_to(Path(parent).resolve() / ".dvc" / "tmp" / "exps")
            return Path(parent).resolve() if inside else Path(*parts[:i])
    return root


def resolve_uri(uri: str, root: Path) -> str:
    """The tracking URI to use: ``MLFLOW_TRACKING_URI`` before ``uri``; relative sqlite files lie under ``root``.

    Raises
    ------
    UserError
        When the address is neither ``sqlite:///file``, another database, nor ``http(s)://…``.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or uri
    scheme = uri.partition("://")[0].lower()
    if scheme in ("sqlite", "sqlite+pysqlite"):
        path = uri.partition(":///")[2].partition("?")[0].removeprefix("/")
        if not path or path == ":memory:":
            raise UserError(f"tracking.uri {uri!r}: expected sqlite:///<file>, for example sqlite:///mlflow.db")
        return sqlite_uri.uri_of(utf8(sqlite_uri.file_of(uri, root)), uri)
    if scheme in ("http", "https") and urlsplit(uri).hostname:
        return uri.rstrip("/")
    if scheme == "postgresql":  # SQLAlchemy's own choice of a driver changes with its version
        return f"postgresql+psycopg2{uri[len(scheme) :]}"
    if scheme.partition("+")[0] in _DATABASES:
        return uri
    raise UserError(
        f"tracking.uri {without_credentials(uri)!r}: expected sqlite:///<file>, http(s)://<server>, "
        f"or a database URI ({', '.join(_DATABASES)})"
    )


def utf8(path: Path) -> Path:
    """The path, if MLflow can store it: its URIs and databases hold nothing but text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{path}: MLflow can't keep a store in a folder whose name is not UTF-8: rename the folder, or set "
            "tracking.uri and tracking.artifacts to other places"
        ) from None
    return path


def public_uri(uri: str, root: Path) -> str:
    """The resolved URI as files and tags may show it: no credentials, sqlite files relative to ``root``."""
    if sqlite_uri.is_sqlite(uri):
        file = sqlite_uri.file_of(uri, root)
        if file.is_relative_to(root.resolve()):
            return sqlite_uri.uri_of(file.relative_to(root.resolve()))
    return without_credentials(uri)


@contextmanager
def explained(uri: str, doing: str) -> Iterator[None]:
    """Turn exceptions of MLflow and of the artifacts' store into a ``UserError`` that says what was being done."""
    try:
        yield
    except Exception as error:
        if not known(error):
            raise
        if sqlite_uri.is_sqlite(uri) and sqlite_file.LOCKED in str(error):
            raise UserError(
                f"MLflow at {without_credentials(uri)}: could not {doing}: {sqlite_file.LOCKED}, another process keeps "
                "writing to it. End that process, and try again"
            ) from error
        message = without_credentials(str(error).replace(uri, without_credentials(uri)).strip())
        raise UserError(f"MLflow at {without_credentials(uri)}: could not {doing}: {message}") from error


def known(error: BaseException) -> bool:
    """Whether an error is one of MLflow, of its database or of the artifacts' store."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    return isinstance(error, MlflowException | RequestException) or _of(error, "botocore", "boto3", "sqlalchemy")


def unreachable(error: BaseException, uri: str) -> bool:
    """Whether an error says that the store (or the artifacts' store) is away now, so that a later try may help.

    That is: no connection or answer, HTTP 5xx, 408 and 429, and a database's operational errors; not what the store
    refuses.
    """
    from mlflow.exceptions import MlflowException

    link: BaseException | None = error
    while link is not None:
        if isinstance(link, MlflowException):
            status = link.get_http_status_code()
            if uri.startswith("http") or link.error_code != "INTERNAL_ERROR":
                return _transient(status)
        elif _of(link, "requests"):
            answer = getattr(link, "response", None)
            return _transient(answer.status_code) if answer is not None else not isinstance(link, ValueError)
        elif _of(link, "sqlalchemy"):
            return type(link).__name__ in ("OperationalError", "InterfaceError")
        elif _of(link, "botocore"):
            answer = getattr(link, "response", None)
            if answer is not None:
                return _transient(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            return any(base.__name__ in ("HTTPClientError", "ConnectionError") for base in type(link).__mro__)
        link = link.__cause__ or link.__context__
    return False


def _of(error: BaseException, *packages: str) -> bool:
    return type(error).__module__.partition(".")[0] in packages


def _transient(status: int) -> bool:
    return status in (408, _TOO_MANY) or (status >= 500 and status != _NOT_IMPLEMENTED)


@contextmanager
def hurried(seconds: int) -> Iterator[None]:
    """Within the context one answer is waited for ``seconds``, and asked for twice at most; a user's settings hold."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds)}
    ours = {key: value for key, value in wanted.items() if os.environ.get(key) == _ENVIRONMENT[key]}
    os.environ.update(ours)
    try:
        yield
    finally:
        os.environ.update({key: _ENVIRONMENT[key] for key in ours})


def answers(uri: str) -> bool:
    """A quick look whether the store is there: a server's health, a database's port, a sqlite file that is free."""
    try:
        if uri.startswith("http"):
            _check_server(uri)
        elif sqlite_uri.is_sqlite(uri):
            return not sqlite_file.is_locked(sqlite_uri.file_of(uri, Path()))
        else:
            _check_database(uri)
    except UserError:
        return False
    return True


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
        # Both tell of failed tries, one with a traceback; the error itself comes to us.
        for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    registry = os.environ.get("MLFLOW_REGISTRY_URI") or uri
    if uri.startswith("http"):
        _check_server(uri)
    elif not sqlite_uri.is_sqlite(uri):
        _check_database(uri)
    with explained(uri, "open the store"):
        if not sqlite_uri.is_sqlite(uri):
            return MlflowClient(tracking_uri=uri, registry_uri=registry)
        file = sqlite_uri.file_of(uri, Path())
        sqlite_uri.check(file)
        sqlite_file.wait_until_free(file)
        with locked(file.parent):
            sqlite_file.make_whole(uri, file)
            return MlflowClient(tracking_uri=uri, registry_uri=registry)


def _prepare_environment() -> None:
    """Short retries and no chatter, unless the user's environment says otherwise; read by MLflow at each call."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    if os.environ.get("MLFLOW_S3_ENDPOINT_URL"):  # artifacts go to a server that is not AWS
        for key, value in WITHOUT_CHECKSUMS.items():
            os.environ.setdefault(f"AWS_{key.upper()}", value)
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


def _check_database(uri: str) -> None:
    """Knock at the database's port: MLflow would try for minutes."""
    parts = urlsplit(uri)
    try:
        port = parts.port or _DATABASES[parts.scheme.partition("+")[0]]
    except ValueError:  # several hosts
        return
    if not parts.hostname:  # a socket in the file system
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=_REACH_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"MLflow at {without_credentials(uri)}: nothing answers at {parts.hostname}:{port} ({error}). Start the "
            "database, or set tracking.uri (or MLFLOW_TRACKING_URI) to one that runs."
        ) from error


@contextmanager
def locked(
    folder: Path,
    patience: float = 60,
    otherwise: str = "another process holds the MLflow store for a minute",
    waiting: str = "",
) -> Iterator[None]:
    """Hold an advisory lock on a folder: MLflow creates a sqlite store's tables without one.

    Parameters
    ----------
    patience : float
        Seconds to wait for another process.
    otherwise : str
        What the ``UserError`` says after these.
    waiting : str
        What a warning says when it has to be waited.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(f"{folder}: {otherwise}") from None
                if waiting:
                    _logger.warning("%s", waiting)
                    waiting = ""
                time.sleep(0.05)
            except OSError:  # a file system without locks on folders (some NFS): go on without
                break
        yield
    finally:
        os.close(handle)
