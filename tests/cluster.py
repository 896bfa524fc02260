"""A Dask cluster of real processes on this machine: `dask scheduler` and `dask worker`, started and killed at will."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from distributed import Client

DASK = Path(sys.executable).parent / "dask"
START_S = 600


class Cluster:
    """A scheduler and its workers, each the leader of a process group, so that a kill takes its nanny too.

    Parameters
    ----------
    folder : Path
        For logs and the workers' scratch files.
    workers : names of the first workers
    environment : of all processes, over this one's
    protocol : ``tcp``, or ``tls`` with keys named in the environment and in Dask's configuration here
    """

    def __init__(
        self,
        folder: Path,
        workers: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        protocol: str = "tcp",
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = os.environ | (environment or {})
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        port = free_port()
        self.address = f"{protocol}://127.0.0.1:{port}"
        self._start(
            "scheduler", "scheduler", "--host", f"{protocol}://127.0.0.1", "--port", str(port), "--no-dashboard"
        )
        for name in workers:
            self.add(name)
        self.client = Client(self.address, timeout=START_S, set_as_default=False)
        self.wait_for(*workers)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        for name in reversed(self.processes):  # workers first: they say goodbye to the scheduler
            self.processes[name].terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.processes[name].wait(10)
        for name in list(self.processes):
            self.kill(name)

    def add(self, name: str, *options: str, environment: dict[str, str] | None = None) -> None:
        """Start one more worker, with one thread and without a nanny unless the options say otherwise."""
        scratch = str(self.folder / f"{name}-scratch")
        threads = () if "--nthreads" in options else ("--nthreads", "1")
        nanny = () if "--nanny" in options else ("--no-nanny",)
        common = ("--name", name, "--no-dashboard", "--local-directory", scratch)
        self._start(name, "worker", self.address, *common, *threads, *nanny, *options, environment=environment)

    def wait_for(self, *names: str) -> None:
        """Wait until the scheduler knows these workers, and no others."""
        deadline = time.monotonic() + START_S
        while {worker["name"] for worker in self.client.scheduler_info()["workers"].values()} != set(names):
            assert time.monotonic() < deadline, f"{', '.join(names)}: not up in {START_S} s"
            time.sleep(0.1)

    @contextlib.contextmanager
    def only(self, *names: str, options: tuple[str, ...] = ()) -> Iterator[None]:
        """Have these workers and no others; what is left of them is killed at the end."""
        for name in names:
            self.add(name, *options)
        self.wait_for(*names)
        try:
            yield
        finally:
            for name in {*names} & self.processes.keys():
                self.kill(name)

    def kill(self, name: str) -> None:
        """kill -9 a process and all it started, as when its machine goes down."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def busy(self) -> set[str]:
        """Names of the workers that have a task in hand."""
        names = {address: worker["name"] for address, worker in self.client.scheduler_info()["workers"].items()}
        return {names[address] for address, tasks in self.client.processing().items() if tasks and address in names}

    def kill_when_busy(self, name: str, timeout: float = START_S) -> None:
        """kill -9 a worker in the middle of a task."""
        deadline = time.monotonic() + timeout
        while True:
            assert time.monotonic() < deadline, f"{name} never had a task"
            if name in self.busy():
                os.killpg(self.processes[name].pid, signal.SIGSTOP)
                time.sleep(0.05)  # an answer that was on its way arrives
                if name in self.busy():
                    self.kill(name)
                    return
                os.killpg(self.processes[name].pid, signal.SIGCONT)
            time.sleep(0.005)

    def log(self, name: str) -> str:
        """What a process printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _start(self, name: str, *command: str, environment: dict[str, str] | None = None) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [DASK, *command], env=self.environment | (environment or {}), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip


def free_port() -> int:
    """A port of the loopback address that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
