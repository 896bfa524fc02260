"""Messages to people when a stage ends, fails, or was killed; sent by a process of their own (support/apprise_child).

Nothing here decides a result, makes a stage fail, or shows where messages go. That a stage was killed is seen by the
next one: each holds a lock on a file of its own in ``data/work/running``, which the system frees when it dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from labelstack.params import Params, load_params
from labelstack.params.notify import URL_VARIABLE, NotifySection
from labelstack.stages import paths
from labelstack.support.apprise_child import SENT, UNKNOWN_URL
from labelstack.support.credentials import without_credentials
from labelstack.support.errors import UserError

if TYPE_CHECKING:
    from labelstack.tracking.run import Run

_LONGEST = 300  # characters of an error's first line
_MAX_FILE = 65536  # bytes
_SUFFIX = ".json"


@contextmanager
def telling(stage: str, names: Sequence[str] = ()) -> Iterator[None]:
    """Around a stage: tell of its end or failure, and of stages killed before, as ``notify`` in params.yaml says.

    Parameters
    ----------
    names : of what the stage is about, such as a model and a fold
    """
    params = _params()
    if params is None or not params.notify.on:
        yield
        return
    from labelstack.tracking.opened import hearing

    told = Teller(params, stage, names)
    told.begin()
    try:
        with hearing(told.hear):
            yield
    except BaseException as error:
        told.failed(error)
        raise
    else:
        told.ended()
    finally:
        told.close()


def _params() -> Params | None:
    """Params here; None where they cannot be read, which the stage itself says."""
    try:
        return load_params()
    except UserError:
        return None


def destinations(section: NotifySection) -> list[str]:
    """URLs of apprise, secret: those of the environment, else those of ``notify.file``; none where neither is given.

    Raises
    ------
    UserError
        When others may read the file, or it is none that can be read; no message holds a part of it.
    """
    if named := os.environ.get(URL_VARIABLE, "").split():
        return named
    if section.file is None:
        return []
    lines = map(str.strip, _private(Path(section.file).expanduser()).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _private(path: Path) -> str:
    shown = f"notify.file: {path}"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would be waited for
    except OSError as error:
        raise UserError(f"{shown}: cannot be read ({error.strerror})") from None
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{shown}: must be a file")
        if found.st_mode & 0o077:
            raise UserError(
                f"{shown}: has the mode {stat.S_IMODE(found.st_mode):o}, so that others may read the secret in it; "
                f"it must be 600: chmod 600 {path}"
            )
        content = file.read(_MAX_FILE + 1)
    if len(content) > _MAX_FILE:
        raise UserError(f"{shown}: is longer than {_MAX_FILE:,} bytes; a URL in each line is expected")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UserError(f"{shown}: must be UTF-8 text with a URL in each line") from None


@dataclass
class Teller:
    """What is told of one stage; no method raises for want of a message.

    Attributes
    ----------
    runs : MLflow runs that the stage has opened
    """

    params: Params
    stage: str
    names: Sequence[str] = ()
    runs: list[Run] = field(default_factory=list)
    _sending: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _mark: _Mark | None = None
    _started: float = field(default_factory=time.monotonic)
    _warned: bool = False

    @property
    def _called(self) -> str:
        return " ".join([self.stage, *self.names])

    def begin(self) -> None:
        """Tell of stages that were killed; from now on this one's kill would be seen."""
        with self._quietly():
            for dead in killed(_running()):
                self._send(f"{dead['called']} was killed", [f"It began on {dead['began']}.", *dead["links"]])
            if self.params.notify.tells_failure(self.stage):
                self._mark = _Mark.made(_running(), self._note())

    def hear(self, run: Run) -> None:
        """Keep a run that was opened, so that even after a kill it is known."""
        self.runs.append(run)
        with self._quietly():
            if self._mark:
                self._mark.write(self._note())

    def ended(self) -> None:
        """Tell of the end."""
        if self.params.notify.tells_end(self.stage):
            with self._quietly():
                self._send(f"{self._called} ended", [f"It took {self._took()}.", *self._score(), *self._links()])

    def failed(self, error: BaseException) -> None:
        """Tell of a failure."""
        if self.params.notify.tells_failure(self.stage):
            with self._quietly():
                lines = [reason(error), f"It ran for {self._took()}.", *self._links()]
                self._send(f"{self._called} failed", lines)

    def close(self) -> None:
        """Wait for what is being sent, ``notify.timeout_s`` in all, and say in one line when somebody was not told."""
        if self._mark:
            self._mark.drop()
        deadline = time.monotonic() + self.params.notify.timeout_s
        for process in self._sending:
            try:
                code = process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self._warn(f"a message was not sent within {self.params.notify.timeout_s:g} s (notify.timeout_s)")
                continue
            if code == UNKNOWN_URL:
                self._warn(f"{self._source()} holds a URL that apprise does not know: see its list of services")
            elif code != SENT:
                self._warn(f"a message was not taken; does {self._source()} name the right server?")

    def _send(self, title: str, lines: list[str]) -> None:
        try:
            urls = destinations(self.params.notify)
        except UserError as error:
            self._warn(str(error))
            return
        if not urls:
            self._warn(f"nobody is told: set {URL_VARIABLE}, or notify.file in params.yaml")
            return
        asked = {
            "urls": urls,
            "title": f"{_root().name}: {title}",
            "body": "\n".join(lines),
            "seconds": self.params.notify.timeout_s,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "labelstack.support.apprise_child"], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._sending.append(process)
        with suppress(BrokenPipeError), process.stdin or open(os.devnull, "wb") as pipe:
            pipe.write(json.dumps(asked).encode())

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # nothing about a message may end a stage, nor show what is in it
            self._warn(f"nobody was told ({type(error).__name__})")

    def _warn(self, said: str) -> None:
        if not self._warned:
            print(f"labelstack: notify: {said}", file=sys.stderr, flush=True)
        self._warned = True

    def _source(self) -> str:
        return URL_VARIABLE if os.environ.get(URL_VARIABLE, "").strip() else "notify.file"

    def _took(self) -> str:
        minutes, seconds = divmod(round(time.monotonic() - self._started), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"

    def _note(self) -> dict[str, Any]:
        return {"called": self._called, "began": time.strftime("%Y-%m-%d %H:%M"), "links": self._links()}

    def _links(self) -> list[str]:
        return [without_credentials(run.tracker.url(run.run_id)) for run in main_run(self.runs)]

    def _score(self) -> list[str]:
        from labelstack.scoring.metric import metric_of

        metric = metric_of(self.params.metric)
        return [line for run in main_run(self.runs) if (line := score_line(run.metrics, metric.key, metric.title))]


def main_run(runs: Sequence[Run]) -> list[Run]:
    """The run that a stage is about: the blend's where it is among them, else the first; none where there is none."""
    return [run for run in runs if run.name.startswith("blend/")][:1] or list(runs[:1])


def score_line(metrics: dict[str, float], key: str, title: str) -> str:
    """The score of a run in words, with its 95 % interval where there is one; empty where it has no score.

    Parameters
    ----------
    metrics : of the run
    key, title : of the metric that everything is compared by
    """
    score = metrics.get(f"{key}_cross_fitted")
    if score is None:
        held_out = metrics.get(f"holdout_{key}")
        return "" if held_out is None else f"{title} {held_out:.3f} on held-out rows, in the last epoch"
    low, high = (metrics.get(f"{key}_cross_fitted_{end}") for end in ("low", "high"))
    between = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{title} {score:.3f}{between}, cross-fitted"


def reason(error: BaseException) -> str:
    """Why a stage failed, in a line that may leave this machine.

    The first line of what the user is told, without credentials; of other errors their class alone.
    """
    if isinstance(error, UserError):
        said = without_credentials(str(error).partition("\n")[0])
        return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
    return "Ctrl-C" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}; the terminal says more"


def killed(folder: Path) -> list[dict[str, Any]]:
    """What stages that were killed had noted, which is dropped: each is told once."""
    found = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with suppress(OSError, ValueError), path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                continue  # another process was faster
            path.unlink()
            note = json.loads(file.read())
            found.append({key: note[key] for key in ("called", "began", "links")})
    return found


@dataclass
class _Mark:
    """A locked file with a note of a stage that runs. The lock is the process's own: forked children do not hold it."""

    path: Path
    file: IO[bytes]

    @classmethod
    def made(cls, folder: Path, note: dict[str, Any]) -> _Mark:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        mark = cls(Path(f"{name}{_SUFFIX}"), open(handle, "r+b"))  # noqa: SIM115
        fcntl.lockf(mark.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mark.write(note)
        os.rename(name, mark.path)  # seen when it is locked
        return mark

    def write(self, note: dict[str, Any]) -> None:
        self.file.seek(0)
        self.file.write(json.dumps(note).encode())
        self.file.truncate()
        self.file.flush()

    def drop(self) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.file.close()


def _running() -> Path:
    return _root() / paths.RUNNING


def _root() -> Path:
    from labelstack.tracking.store import main_root

    return main_root(".")
