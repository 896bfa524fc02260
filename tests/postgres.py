"""A private PostgreSQL for tests: a data folder, a socket and a loopback port of its own, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2


@dataclass
class Postgres:
    """A running server; its superuser ``labelstack`` has a password.

    Attributes
    ----------
    port : int
        On 127.0.0.1.
    password : str
        Of the user ``labelstack``.
    log : Path
        Everything the server said.
    """

    port: int
    folder: Path
    user: str = "labelstack"
    password: str = field(default="", repr=False)

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.folder / "log"

    def uri(self, database: str, *, password: bool = False) -> str:
        """``postgresql://user@127.0.0.1:port/database``; the password goes along only when asked for."""
        login = f"{self.user}:{self.password}" if password else self.user
        return f"postgresql://{login}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database; returns its URI without password."""
        self.query("postgres", f'CREATE DATABASE "{database}"', rows=False)
        return self.uri(database)

    def query(self, database: str, statement: str, *, rows: bool = True) -> list[tuple[object, ...]]:
        """Run one statement; returns its rows."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=self.user, password=self.password, dbname=database
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if rows else []
        finally:
            connection.close()

    def dump(self, database: str) -> bytes:
        """The whole database as SQL text."""
        command = [str(binaries() / "pg_dump"), "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, database]
        environment = os.environ | {"PGPASSWORD": self.password}
        return subprocess.run(command, env=environment, check=True, capture_output=True).stdout


def binaries() -> Path:
    """The folder with initdb and postgres: that of the PATH, or Debian's newest."""
    found = shutil.which("initdb")
    folder = Path(found).resolve().parent if found else None
    if folder and all((folder / name).exists() for name in ("postgres", "pg_dump")):
        return folder
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not versions:
        raise RuntimeError("these tests need a PostgreSQL server; on Debian: apt-get install postgresql")
    return max(versions, key=lambda path: float(path.parent.name))


def _as_somebody() -> list[str]:
    """PostgreSQL refuses root: run as the user that Debian's package makes."""
    if os.geteuid() != 0:
        return []
    runner = shutil.which("setpriv")
    if runner:
        return [runner, "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
    return ["runuser", "-u", "postgres", "--"]


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def postgres(password: str = "of-the-tests") -> Iterator[Postgres]:
    """Start a PostgreSQL whose logins over TCP need the password (scram-sha-256); stop and delete it at the end."""
    somebody, bin_ = _as_somebody(), binaries()
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        secret = folder / "password"
        secret.write_text(password)
        if somebody:
            for path in (folder, secret):
                shutil.chown(path, "postgres", "postgres")
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)}
        subprocess.run(
            [*somebody, bin_ / "initdb", "-D", folder / "data", "-U", "labelstack", "-A", "scram-sha-256",
             "--pwfile", secret, "-E", "UTF8", "--no-sync"],
            env=environment, cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        secret.unlink()
        server = Postgres(_free_port(), folder, password=password)
        with server.log.open("wb") as log:
            process = subprocess.Popen(
                [*somebody, bin_ / "postgres", "-D", folder / "data", "-k", folder, "-h", "127.0.0.1",
                 "-p", str(server.port), "-c", "fsync=off", "-c", "log_statement=none"],
                env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            _wait(server, process)
            yield server
        finally:
            process.terminate()  # a smart shutdown would wait for clients
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.send_signal(3)  # SIGQUIT: at once
                process.wait(20)


def _wait(server: Postgres, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 600
    while True:
        with contextlib.suppress(psycopg2.OperationalError):
            server.query("postgres", "SELECT 1")
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL does not answer:\n{server.log.read_text(errors='replace')}")
        time.sleep(0.1)
