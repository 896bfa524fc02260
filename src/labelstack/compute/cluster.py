"""Tasks on an existing Dask cluster: connecting with a look at every worker, sending, and what goes wrong."""

from __future__ import annotations

import json
import logging
import platform
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distributed import Client, Future, wait
from distributed.client import FutureCancelledError, FuturesCancelledError
from distributed.scheduler import KilledWorker

from labelstack.compute import worker as engine_worker
from labelstack.compute.jobs import Files, Job, JobFunction
from labelstack.params.engine import EngineSection
from labelstack.support.errors import UserError
from labelstack.support.progress import bar

_PROBE = ".labelstack-probe"
_ROUND_S = 1.0  # how long to wait for an answer before looking after the workers
_AHEAD = 3  # tasks sent and not yet answered, for each thread of the cluster


class Cluster:
    """A connection to a Dask scheduler whose workers have been looked at.

    Parameters
    ----------
    settings : EngineSection
        With a ``scheduler``.
    workspace : Path
        The folder of dvc.yaml here.

    Raises
    ------
    UserError
        When nobody answers at the address, no worker is there, or one of them runs other versions or does not see
        the workspace; all that is wrong with all workers at once.
    """

    def __init__(self, settings: EngineSection, workspace: Path) -> None:
        self.settings, self.workspace = settings, workspace
        self.address = str(settings.scheduler)
        shared = settings.workspace
        self.folder = str(workspace) if shared is None else shared
        self.store = None
        self._threads_seen, self._asked = 0, -_ROUND_S
        self._alone_since: float | None = None
        if shared is not None and shared.startswith("s3://"):
            from labelstack.compute.object_store import Store

            self.store = Store(shared, settings.s3_endpoint_url)
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it reports, we say in a sentence
        self.client = self._connected()
        try:
            self._look_at_workers()
        except BaseException:
            self.client.close()
            raise

    def _connected(self) -> Client:
        limit, came = self.settings.timeout_s, list[Client | Exception]()

        def connect() -> None:
            try:
                came.append(Client(self.address, timeout=limit, set_as_default=False))
            except Exception as error:
                came.append(error)

        # A server that takes the connection and says nothing would keep the client waiting for ever.
        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        thread.join(limit + 1)
        if came and isinstance(came[0], Client):
            return came[0]
        reason = f" ({_first_line(came[0])})" if came else ""
        raise UserError(
            f"engine.scheduler {self.address}: no answer within {limit:g} s{reason}. "
            "Start one with `dask scheduler`, or set engine.scheduler: null to work on this machine."
        )

    def close(self) -> None:
        """Leave; the scheduler drops the tasks that nobody else waits for."""
        self.client.close()

    def map(self, function: JobFunction, jobs: Sequence[Job], desc: str, reads: Files, writes: Files) -> Iterator[Any]:
        """Results in the order of the jobs; see ``Engine.map``."""
        name = engine_worker.name_of(function)
        key = f"{name.partition(':')[2]}-{uuid.uuid4().hex[:8]}"
        waiting = deque(enumerate(jobs))
        flying: dict[Future, int] = {}
        answers: dict[int, str] = {}
        given = 0
        try:
            with bar(total=len(jobs), desc=desc, unit="task") as progress:
                while given < len(jobs):
                    room = self._room() - len(flying)
                    for number, job in (waiting.popleft() for _ in range(min(room, len(waiting)))):
                        task = self._task(name, job, reads, writes)
                        future = self.client.submit(
                            engine_worker.run_task, task, key=f"{key}-{number}", pure=False,
                            retries=self.settings.retries,
                        )  # fmt: skip
                        flying[future] = number
                    for future in self._finished(list(flying)):
                        number = flying.pop(future)
                        answers[number] = self._answer(future, f"{desc or name} {number}")
                        progress.update(1)
                    while given in answers:
                        yield self._result(json.loads(answers.pop(given)), jobs[given], writes)
                        given += 1
        finally:
            for future in flying:
                future.cancel(reason="nobody waits for it", msg="")

    def _task(self, name: str, job: Job, reads: Files, writes: Files) -> str:
        task = {"function": name, "job": self._relative(job), "workspace": self.folder}
        task["code"] = engine_worker.versions()["code"]
        if self.store is not None:
            task["s3"] = self.store.describe()
            task["reads"] = self.store.send(self.workspace, reads(job))
            task["writes"] = [self.store.relative(self.workspace, path) for path in writes(job)]
        return json.dumps(task)

    def _relative(self, value: Any) -> Any:
        """The same job with paths as they are under whatever name a worker has the workspace."""
        if isinstance(value, dict):
            return {key: self._relative(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._relative(item) for item in value]
        if isinstance(value, str):
            return "." if value == str(self.workspace) else value.removeprefix(f"{self.workspace}/")
        return value

    def _result(self, answer: dict[str, Any], job: Job, writes: Files) -> Any:
        if "problem" in answer:
            raise UserError(answer["problem"])
        if self.store is not None:
            self.store.receive(self.workspace, answer["files"])
            return answer["result"]
        # A network file system may show a new file to other machines a little later.
        deadline = time.monotonic() + self.settings.timeout_s
        while unseen := [str(path) for path in writes(job) if not (self.workspace / path).exists()]:
            if time.monotonic() > deadline:
                raise UserError(
                    f"{', '.join(unseen)}: written by a worker, not seen here after {self.settings.timeout_s:g} s. "
                    "Is engine.workspace the same folder?"
                )
            time.sleep(0.05)
        return answer["result"]

    def _room(self) -> int:
        """How many tasks may be out at once; the cluster is asked for its size once a round, not for every task."""
        if time.monotonic() - self._asked > _ROUND_S:
            self._threads_seen, self._asked = sum(self._threads().values()), time.monotonic()
        return _AHEAD * max(self._threads_seen, 1)

    def _finished(self, futures: list[Future]) -> list[Future]:
        """Those of the futures that are through, failed ones first; wait until there is one."""
        while True:
            try:
                with self.client.as_current():
                    done = wait(futures, timeout=_ROUND_S, return_when="FIRST_COMPLETED").done
                return sorted(done, key=lambda future: future.status != "error")
            except FuturesCancelledError:
                raise self._lost() from None
            except TimeoutError:
                self._look_for_workers()

    def _answer(self, future: Future, what: str) -> str:
        """The answer of a task that is through; it is done again if its worker died before it could hand it over."""
        while future.status != "error":
            try:
                return str(future.result(timeout=_ROUND_S))
            except FutureCancelledError:
                raise self._lost() from None
            except TimeoutError:
                self._look_for_workers()
            except Exception:
                if future.status != "error":
                    raise
        error = future.exception()
        if isinstance(error, KilledWorker):
            raise UserError(
                f"{what}: every worker that took this task died, the last was {error.last_worker.address}. "
                "Too little memory is the usual reason; the worker's log tells."
            ) from None
        error.add_note(f"in task {what} on {self.address}")
        raise error

    def _look_for_workers(self) -> None:
        """Raise when there has been no worker for a while."""
        now = time.monotonic()
        self._alone_since = None if self._threads() else self._alone_since or now
        if self._alone_since is not None and now - self._alone_since > self.settings.timeout_s:
            raise UserError(
                f"{self.address}: no worker left for {self.settings.timeout_s:g} s. "
                f"Start some with `dask worker {self.address}` and run again; what is done is kept."
            ) from None

    def _threads(self) -> dict[str, int]:
        try:
            return dict(self.client.nthreads())
        except (OSError, AttributeError, RuntimeError, ValueError):
            raise self._lost() from None

    def _lost(self) -> UserError:
        return UserError(f"{self.address}: the connection to the scheduler was lost. Run again; what is done is kept.")

    def _look_at_workers(self) -> None:
        try:
            self.client.wait_for_workers(1, timeout=self.settings.timeout_s)
        except TimeoutError:
            raise UserError(
                f"engine.scheduler {self.address} has no workers after {self.settings.timeout_s:g} s. "
                f"Start some with `dask worker {self.address} --nthreads 1`."
            ) from None
        # Functions of the standard library come first: those of labelstack need labelstack there.
        pythons = self.client.run(platform.python_version, on_error="return")
        problems = [
            f"worker {worker}: Python {version}, here {platform.python_version()}"
            for worker, version in sorted(pythons.items())
            if _minor(str(version)) != _minor(platform.python_version())
        ]
        if not problems:
            problems = self._workspace_problems() if self.store is None else self._version_problems({})
        if problems:
            raise UserError(
                f"engine.scheduler {self.address}: {len(problems)} problems with its workers\n  - "
                + "\n  - ".join(problems)
                + "\nWorkers must run the environment of the client (requirements.lock, the same labelstack); "
                "start them again after a change."
            )

    def _workspace_problems(self) -> list[str]:
        token = uuid.uuid4().hex
        probe = self.workspace / f"{_PROBE}-{token}"
        probe.write_text(token, encoding="utf-8")
        try:
            return self._version_problems({"token": token})
        finally:
            for file in self.workspace.glob(f"{_PROBE}-{token}*"):
                file.unlink(missing_ok=True)

    def _version_problems(self, probe: dict[str, str]) -> list[str]:
        """What is wrong with which worker: labelstack missing, other versions, the probe file not seen."""
        token = probe.get("token", "")
        name = f"{_PROBE}-{token}"
        looks = self.client.run(engine_worker.look_around, self.folder, name, name, on_error="return")
        here, problems = engine_worker.versions(), []
        for worker, look in sorted(looks.items()):
            if not isinstance(look, dict):
                problems.append(f"worker {worker}: labelstack cannot be imported there ({_first_line(look)})")
                continue
            there = look["versions"]
            problems += [
                f"worker {worker}: {package} {there.get(package)}, here {version}"
                for package, version in here.items()
                if _comparable(package, there.get(package, "")) != _comparable(package, version)
            ]
            if token and look["seen"] != token:
                problems.append(f"worker {worker}: does not see this workspace at {self.folder} (engine.workspace)")
            elif token and not look["written"]:
                problems.append(f"worker {worker}: may not write to the workspace at {self.folder}")
        return problems


def _comparable(package: str, version: str) -> str:
    return _minor(version) if package == "python" else version


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
