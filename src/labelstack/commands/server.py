"""`labelstack server`: a team's MLflow server on PostgreSQL, with artifacts on S3 that go through the server."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from labelstack.s3.place import parse_place
from labelstack.support.errors import InputProblems
from labelstack.support.storage import WITHOUT_CHECKSUMS

DATABASE, ARTIFACTS = "LABELSTACK_DATABASE", "LABELSTACK_ARTIFACTS"
ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"
_SECONDS = 5
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_ANY = {"0.0.0.0", "::"}  # noqa: S104
_DATABASE_EXAMPLE = "postgresql://labelstack@127.0.0.1:5432/labelstack"


@dataclass(frozen=True)
class Settings:
    """What the server works on.

    Attributes
    ----------
    database : str
        URI without password: commands and logs may show it.
    password : str or None
        For libpq's ``PGPASSWORD``; None: from ``~/.pgpass``, or none is needed.
    artifacts : str
        ``s3://bucket/prefix`` or an absolute folder.
    """

    database: str
    artifacts: str
    password: str | None = field(default=None, repr=False)

    @property
    def mlflow_uri(self) -> str:
        """The database with the driver named: SQLAlchemy's own choice changes with its version."""
        return self.database.replace("postgresql://", "postgresql+psycopg2://", 1)


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

    if not text:
        problems.append(f"{DATABASE}: is not set; give the team's PostgreSQL database, such as {_DATABASE_EXAMPLE}")
        return "", None
    if text.startswith("sqlite:"):
        problems.append(f"{DATABASE}: sqlite is for one person (`labelstack ui`); a server needs {_DATABASE_EXAMPLE}")
        return "", None
    try:
        url = make_url(re.sub(r"^postgres(ql)?(\+psycopg2)?://", "postgresql://", text))
    except (ArgumentError, ValueError):  # their messages show the URI
        url = None
    if url is None or url.drivername != "postgresql" or not url.database:
        problems.append(f"{DATABASE}: is not a PostgreSQL URI; expected the form {_DATABASE_EXAMPLE}")
        return "", None
    asked = url.query.get("password")
    password = str(url.password or asked) if url.password or asked else None
    query = {key: value for key, value in url.query.items() if key != "password"}
    bare = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return bare.render_as_string(), password


def _artifacts(text: str, endpoint_url: str, problems: list[str]) -> str:
    if not text:
        problems.append(f"{ARTIFACTS}: is not set; give s3://bucket/prefix, or a folder of this machine")
        return ""
    if "://" not in text:
        return str(Path(text).expanduser().resolve())
    try:
        return parse_place(text, endpoint_url or None).url
    except InputProblems as error:
        for problem in error.problems:
            endpoint = problem.startswith("--endpoint-url")
            problems.append(problem.replace("--endpoint-url", ENDPOINT) if endpoint else f"{ARTIFACTS}: {problem}")
        return ""


def check(found: Settings, host: str, port: int) -> None:
    """Try database, artifacts and port within seconds; raise ``InputProblems`` with all that can't be used."""
    checks: list[Callable[[], str | None]] = [
        lambda: _check_database(found),
        lambda: _check_artifacts(found.artifacts),
        lambda: _check_port(host, port),
    ]
    with ThreadPoolExecutor(len(checks)) as pool:
        problems = [problem for problem in pool.map(lambda one: one(), checks) if problem]
    if problems:
        raise InputProblems("labelstack server", problems)


def _check_database(found: Settings) -> str | None:
    import psycopg2

    login = {"password": found.password} if found.password else {}
    try:
        connection = psycopg2.connect(found.database, connect_timeout=_SECONDS, **login)
    except psycopg2.Error as error:
        return f"{DATABASE} ({found.database}): {_explained(str(error), found)}"
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT has_schema_privilege(current_schema(), 'CREATE'), to_regclass('alembic_version')")
            allowed, versioned = cursor.fetchone() or (False, None)
            if not allowed:
                return (
                    f"{DATABASE} ({found.database}): the user may not make tables there: make it the database's owner"
                )
            if versioned is None:
                return None
            cursor.execute("SELECT version_num FROM alembic_version")
            rows = [str(row[0]) for row in cursor.fetchall()]
    except psycopg2.Error as error:
        return f"{DATABASE} ({found.database}): {_explained(str(error), found)}"
    finally:
        connection.close()
    return _schema_problem(rows, found)


def _explained(message: str, found: Settings) -> str:
    """What libpq said, as a sentence that says what to do."""
    text = " ".join(message.split())
    if found.password:
        text = text.replace(found.password, "…")
    if "password authentication failed" in text:
        return "the server refuses user or password: check PGPASSWORD (or ~/.pgpass) and the user in the URI"
    if "no password supplied" in text:
        return "the server asks for a password: set PGPASSWORD, or write it into ~/.pgpass"
    if re.search(r'database ".*" does not exist', text):
        return "there is no such database: make it with `createdb`, owned by the URI's user"
    if "Connection refused" in text or "No such file or directory" in text:
        return "connection refused: is PostgreSQL running there, and listening on this address and port?"
    if "could not translate host name" in text:
        return "no such host: check the name in the URI"
    if "timeout expired" in text:
        return f"no answer within {_SECONDS} s: check host, port and firewall"
    return f"PostgreSQL says: {text}"


def _schema_problem(rows: Sequence[str], found: Settings) -> str | None:
    """Whether the tables are those of the installed MLflow; an empty list: they are about to be made."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    package = Path(str(files("mlflow")))
    config = Config()
    config.set_main_option("script_location", str(package / "store" / "db_migrations"))
    scripts = ScriptDirectory.from_config(config)
    if not rows or rows == scripts.get_heads():
        return None
    try:
        scripts.get_revision(rows[0])
    except CommandError:
        return f"{DATABASE}: its tables ({rows[0]}) are those of a newer MLflow: install that one here"
    return (
        f"{DATABASE}: its tables ({rows[0]}) are those of an older MLflow: back the database up with pg_dump, then run "
        f"`mlflow db upgrade {found.mlflow_uri}`"
    )


def _check_artifacts(artifacts: str) -> str | None:
    if not artifacts.startswith("s3://"):
        folder = Path(artifacts)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            return f"{ARTIFACTS} ({artifacts}): can't be written ({error.strerror})"
        return None
    return _check_bucket(artifacts)


def _check_bucket(artifacts: str) -> str | None:
    from labelstack.s3.checks import inspect

    place = parse_place(artifacts, os.environ.get(ENDPOINT) or None)
    problems = inspect(place).problems
    if not problems:
        return None
    at = f" --endpoint-url {place.endpoint_url}" if place.endpoint_url else ""
    more = f"`labelstack remote {place.url}{at}` tells more, with --create it makes the bucket"
    return f"{ARTIFACTS} ({artifacts}): {'; '.join(problems)} ({more})"


def _check_port(host: str, port: int) -> str | None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return None
    except OSError as error:
        return f"--host {host} --port {port}: {error.strerror}: give a free port and an address of this machine"


def names(host: str, allow: Sequence[str]) -> list[str]:
    """Names under which clients may ask for the server: loopback, those allowed, and this machine's if it is open."""
    found = [*_LOOPBACK, *allow]
    if host not in {"127.0.0.1", "localhost", "::1"}:
        found += [socket.gethostname(), socket.getfqdn(), _address() if host in _ANY else host]
    return list(dict.fromkeys(name for name in found if name))


def _address() -> str:
    """This machine's address in its network; empty where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # only looks the route up, sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return ""


def environment(found: Settings, inherited: Mapping[str, str], known: Sequence[str], port: int) -> dict[str, str]:
    """The server's environment: what `ps` would show as an argument goes this way."""
    result = {key: value for key, value in inherited.items() if key not in {DATABASE, ARTIFACTS}}
    # MLflow resolves escapes in plain paths too.
    artifacts = found.artifacts if "://" in found.artifacts else Path(found.artifacts).as_uri()
    result |= {"MLFLOW_BACKEND_STORE_URI": found.mlflow_uri, "MLFLOW_ARTIFACTS_DESTINATION": artifacts}
    if found.password:
        result["PGPASSWORD"] = found.password
    if inherited.get(ENDPOINT):  # not AWS: some servers refuse the checksum headers of AWS's clients
        result = {f"AWS_{key.upper()}": value for key, value in WITHOUT_CHECKSUMS.items()} | result
    # MLflow answers only to these names (against DNS rebinding) and lets only these pages change something.
    hosts = [pattern.replace("[", "[[]") if ":*" in pattern else pattern for n in known for pattern in (n, f"{n}:*")]
    origins = [origin for name in known for origin in (f"http://{name}:{port}", f"http://{name}", f"https://{name}")]
    result.setdefault("MLFLOW_SERVER_ALLOWED_HOSTS", ",".join(hosts))
    result.setdefault("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", ",".join(origins))
    result.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    result.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    result.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # jobs of MLflow's language model pages
    for unset in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"):  # not a server's
        result.pop(unset, None)
    return result


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
    command = [sys.executable, "-m", "mlflow", "server", "--serve-artifacts", "--host", host, "--port", str(port)]
    command += ["--workers", str(workers)]
    os.execve(sys.executable, command, environment(found, os.environ, known, port))  # noqa: S606
