"""`labelstack server`: a team's MLflow server on PostgreSQL, with artifacts on S3 that go through the server."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from labelstack.s3.place import parse_place
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.storage import WITHOUT_CHECKSUMS, writable_folder

DATABASE, ARTIFACTS = "LABELSTACK_DATABASE", "LABELSTACK_ARTIFACTS"
ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"
_NOT_PASSED = {DATABASE, ARTIFACTS, "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"}
_SECONDS = 5
_EXAMPLE = "postgresql://labelstack@127.0.0.1:5432/labelstack"


@dataclass(frozen=True)
class Settings:
    """What the server works on: a URI that may be shown, ``s3://bucket/prefix`` or a folder, and ``PGPASSWORD``."""

    database: str
    artifacts: str
    password: str | None = field(default=None, repr=False)


def settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings; raise ``InputProblems`` with everything that is missing or ill-formed."""
    problems: list[str] = []
    database, password = _database(environment.get(DATABASE, "").strip(), problems)
    artifacts = _artifacts(environment.get(ARTIFACTS, "").strip(), environment.get(ENDPOINT, "").strip(), problems)
    if problems:
        raise InputProblems("labelstack server", problems)
    return Settings(database, artifacts, password or environment.get("PGPASSWORD"))


def _database(text: str, problems: list[str]) -> tuple[str, str | None]:
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(re.sub(r"^postgres(ql)?(\+psycopg2)?://", "postgresql+psycopg2://", text))
    except (ArgumentError, ValueError):  # their messages show the URI
        url = None
    if url is None or url.drivername != "postgresql+psycopg2" or not url.database:
        found = "is not a PostgreSQL URI" if text else "is not set"
        problems.append(f"{DATABASE}: {found}; give the team's database, in the form {_EXAMPLE}")
        return "", None
    password = url.password or url.query.get("password")
    query = {key: value for key, value in url.query.items() if key != "password"}
    bare = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    return bare.render_as_string(), str(password) if password else None


def _artifacts(text: str, endpoint_url: str, problems: list[str]) -> str:
    if not text:
        problems.append(f"{ARTIFACTS}: is not set; give s3://bucket/prefix, or a folder of this machine")
        return ""
    if "://" not in text:
        return str(Path(text).expanduser().resolve())
    try:
        return parse_place(text, endpoint_url).url
    except InputProblems as error:
        problems += [f"{ARTIFACTS}: {p}".replace(f"{ARTIFACTS}: --endpoint-url", ENDPOINT) for p in error.problems]
        return ""


def check(found: Settings, host: str, port: int) -> None:
    """Try database, artifacts and port within seconds; raise ``InputProblems`` with all that can't be used."""
    tried = (_check_database(found), _check_artifacts(found.artifacts), check_port(host, port))
    problems = [problem for problem in tried if problem]
    if problems:
        raise InputProblems("labelstack server", problems)


def _check_database(found: Settings) -> str | None:
    """Whether it answers, and holds no tables of another MLflow, which MLflow might change without a word."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DBAPIError

    login = {"password": found.password} if found.password else {}
    engine = create_engine(found.database, connect_args={"connect_timeout": _SECONDS, **login})
    shown = f"{DATABASE} ({found.database})"
    try:
        with engine.connect() as connection:
            version = MigrationContext.configure(connection).get_current_revision()
            allowed = connection.scalar(text("SELECT has_schema_privilege(current_schema(), 'CREATE')"))
    except DBAPIError as error:
        return f"{shown}: {' '.join(str(error.orig).split())} (a password goes into PGPASSWORD, or ~/.pgpass)"
    if not allowed:
        return f"{shown}: the user may not make tables there: make it the database's owner"
    scripts = ScriptDirectory(str(files("mlflow") / "store" / "db_migrations"))
    if version in (None, scripts.get_current_head()):
        return None
    if version not in {script.revision for script in scripts.walk_revisions()}:
        return f"{shown}: its tables ({version}) are those of a newer MLflow: install that one here"
    mended = f"back the database up with pg_dump, then run `mlflow db upgrade {found.database}`"
    return f"{shown}: its tables ({version}) are those of an older MLflow: {mended}"


def _check_artifacts(artifacts: str) -> str | None:
    if not artifacts.startswith("s3://"):
        try:
            writable_folder(Path(artifacts), f"{ARTIFACTS} {artifacts}")
        except UserError as error:
            return str(error)
        return None
    from labelstack.s3.checks import inspect

    place = parse_place(artifacts, os.environ.get(ENDPOINT))
    problems = "; ".join(inspect(place).problems)
    return problems and f"{ARTIFACTS} ({artifacts}): {problems} (`labelstack remote {artifacts}` tells more)"


def check_port(host: str, port: int) -> str | None:
    """Why nothing can listen there, in a sentence; None where it can."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return None
    except OSError as error:
        return f"--host {host} --port {port}: {error.strerror}: give a free port and an address of this machine"


def names(host: str, allow: Sequence[str]) -> list[str]:
    """Names under which clients may ask for the server: loopback, those allowed, and this machine's if it is open."""
    found = ["localhost", "127.0.0.1", "[::1]", *allow]
    if host in ("0.0.0.0", "::"):  # noqa: S104
        host = ""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))  # only looks up the route, and so this machine's address: sends nothing
            host = probe.getsockname()[0]
    if host not in ("127.0.0.1", "localhost", "::1"):
        found += [socket.gethostname(), socket.getfqdn(), host]
    return list(dict.fromkeys(name for name in found if name))


def environment(found: Settings, inherited: Mapping[str, str], known: Sequence[str], port: int) -> dict[str, str]:
    """The server's environment: what `ps` would show as an argument goes this way."""
    # MLflow answers only to these names (against DNS rebinding) and lets only these pages change something.
    hosts = [pattern.replace("[", "[[]") if ":*" in pattern else pattern for n in known for pattern in (n, f"{n}:*")]
    origins = [f"http://{name}:{port},http://{name},https://{name}" for name in known]
    defaults = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # jobs of MLflow's language model pages
    }
    if inherited.get(ENDPOINT):  # not AWS: some servers refuse the checksum headers of AWS's clients
        defaults |= {f"AWS_{key.upper()}": value for key, value in WITHOUT_CHECKSUMS.items()}
    # MLflow resolves escapes in plain paths too.
    artifacts = found.artifacts if "://" in found.artifacts else Path(found.artifacts).as_uri()
    told = {"MLFLOW_BACKEND_STORE_URI": found.database, "MLFLOW_ARTIFACTS_DESTINATION": artifacts}
    told |= {"PGPASSWORD": found.password} if found.password else {}
    return defaults | {key: value for key, value in inherited.items() if key not in _NOT_PASSED} | told


def run(host: str, port: int, workers: int = 2, allow: Sequence[str] = ()) -> None:
    """Check the settings, then become the MLflow server process.

    Parameters
    ----------
    host, port : str, int
        Where to listen.
    workers : int
        Processes that answer requests.
    allow : sequence of str
        Further host names under which browsers and clients reach the server, for example a reverse proxy's.

    Raises
    ------
    InputProblems
        With everything that is missing or can't be reached, within seconds; no message shows a secret.
    """
    found = settings(os.environ)
    check(found, host, port)
    known = names(host, allow)
    shown = f"[{host}]" if ":" in host else host
    print(f"MLflow server: http://{shown}:{port} on {found.database}, artifacts in {found.artifacts}", flush=True)
    print(f"It answers to: {', '.join(known)} (more: --allow). Ctrl-C ends it.", flush=True)
    options = ["--serve-artifacts", "--host", host, "--port", str(port), "--workers", str(workers)]
    command = [sys.executable, "-m", "mlflow", "server", *options]
    os.execve(sys.executable, command, environment(found, os.environ, known, port))  # noqa: S606
