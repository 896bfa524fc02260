"""The team's server as it is started by hand: `labelstack server` on a real PostgreSQL, artifacts on an S3 server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tiny import PATIENCE, environment


def free_port() -> int:
    """A port on loopback that nobody holds now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class TeamServer:
    """A running server.

    Attributes
    ----------
    url : str
    pid : int
        Of the first process.
    log : Path
        All that the server wrote.
    """

    def __init__(self, url: str, pid: int, log: Path) -> None:
        self.url, self.pid, self.log = url, pid, log

    def processes(self) -> list[psutil.Process]:
        """The server and all that it started: the processes of its session."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(process.pid) == self.pid:
                    found.append(process)
        return found

    def commands(self) -> str:
        """What `ps` shows of the server and its children."""
        lines = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # ended since it was listed
                lines.append(" ".join(process.cmdline()))
        return "\n".join(lines)

    def listening(self) -> set[tuple[str, int]]:
        """The addresses and ports at which the server waits for connections."""
        sockets = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                sockets += process.net_connections("inet")
        return {(each.laddr.ip, each.laddr.port) for each in sockets if each.status == psutil.CONN_LISTEN}


@contextmanager
def team_server(folder: Path, settings: dict[str, str], *arguments: str) -> Iterator[TeamServer]:
    """Start `labelstack server` in a folder, with these environment variables, on a free port; kill it at the end."""
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["labelstack", "server", "--port", str(port), "--workers", "1", *arguments],
            cwd=folder, env=environment() | settings, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    server = TeamServer(f"http://127.0.0.1:{port}", process.pid, log)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None, f"labelstack server ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"labelstack server does not answer:\n{log.read_text()}"
            try:
                with urllib.request.urlopen(f"{server.url}/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.2)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def refused(folder: Path, settings: dict[str, str], *arguments: str) -> str:
    """Start a server that must not start; returns what it said."""
    command = ["labelstack", "server", "--port", str(free_port()), *arguments]
    shell = environment(measured=True, quick=True) | settings
    ended = subprocess.run(command, cwd=folder, env=shell, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout + ended.stderr
