"""`labelstack` and `dvc` for tests: a process that has imported TensorFlow, MLflow and DVC forks for each.

Most of what a command costs is those imports, five to nine seconds of it, one of DVC's. A small program named as the
command hands arguments, folder, environment and standard streams to the process, whose child does what the real one
would: it imports labelstack and runs ``main``, measured by coverage where the variables of that are set. lines.py,
which does what several commands do, is such a program too. Wherever another variable changes how Python or a library
starts, and where no process answers, the real command runs instead, as it does in all tests that kill something, one of
which runs every stage, and everywhere in `make test-full`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from functools import cache
from pathlib import Path
from typing import Any

LIBRARIES = (
    "tensorflow",
    "keras",
    "mlflow",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "pandas",
    "pyarrow.parquet",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.base",
    "xgboost",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "pydantic",
    "typer",
    "dvc.cli",
    "dvc.cli.parser",
    "dvc.repo",
    "dvc.stage.run",
    "dvc_data.hashfile.db.local",
    "lines",
)
COMMANDS = {"labelstack": "labelstack.cli", "dvc": "dvc.cli", "lines.py": "lines"}  # name → the module of its ``main``
_LINES = Path(__file__).with_name("lines.py")
# Variables that are read when Python or a library starts, but for one that ``_become`` reads, and one that OpenCV sets.
_EARLY = ("PYTHON", "TF_", "OMP_", "OPENBLAS_", "MKL_", "LD_", "KERAS_", "XLA_", "CUDA_", "MPL")
_NOT_EARLY = (_UNBUFFERED := "PYTHONUNBUFFERED", "LD_LIBRARY_PATH")
_LENGTH = struct.Struct("<Q")
_STATUS = struct.Struct("<qq")  # pid, and what waitpid says or -1 at first

_COMMAND = """#!{python} -IS
import json, os, signal, socket, struct, sys
REAL, EARLY, START = {real!r}, {early!r}, {start!r}
early = {{k: v for k, v in os.environ.items() if k.startswith({prefixes!r}) and k not in {late!r}}}
server = socket.socket(socket.AF_UNIX)
try:
    if early != EARLY:
        raise OSError
    server.connect({address!r})
    asked = json.dumps({{"argv": [REAL, *sys.argv[1:]], "cwd": os.getcwd(), "environment": dict(os.environ)}}).encode()
    socket.send_fds(server, [struct.pack("<Q", len(asked))], [0, 1, 2])
    server.sendall(asked)
    pid, status = struct.unpack("<qq", server.recv(16, socket.MSG_WAITALL))
except (OSError, struct.error):
    os.execv(START[0], [*START, *sys.argv[1:]])
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.kill(pid, number))
status = struct.unpack("<qq", server.recv(16, socket.MSG_WAITALL))[1]
if os.WIFSIGNALED(status):
    signal.signal(os.WTERMSIG(status), signal.SIG_DFL) if os.WTERMSIG(status) != signal.SIGKILL else None
    os.kill(os.getpid(), os.WTERMSIG(status))
os._exit(os.waitstatus_to_exitcode(status))
"""


@cache
def folder() -> str | None:
    """A folder for the front of PATH in which commands are the quick ones; None where only real ones are wanted.

    Its process ends with this one.
    """
    if os.environ.get("LABELSTACK_TESTS") == "full":
        return None
    place = Path(tempfile.mkdtemp(prefix="labelstack-warm-"))
    address = str(place / "socket")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_", "COVERAGE_", "PYTEST_"))}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        [sys.executable, __file__, address], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError("the process that forks for commands did not start")
    _kept.append(process)
    (place / "bin").mkdir()
    for name in COMMANDS:
        program = place / "bin" / name
        program.write_text(
            _COMMAND.format(
                python=sys.executable,
                real=_real(name),
                start=[sys.executable, _real(name)] if name == _LINES.name else [_real(name)],
                address=address,
                prefixes=_EARLY,
                late=_NOT_EARLY,
                early=_early(environment),
            )
        )
        program.chmod(0o755)
    return str(place / "bin")


def lines() -> tuple[str, ...]:
    """The start of the command that is lines.py: the quick one where that is wanted."""
    place = folder()
    return (f"{place}/{_LINES.name}",) if place else (sys.executable, str(_LINES))


def _real(name: str) -> str:
    return str(_LINES if name == _LINES.name else Path(sys.executable).with_name(name))


_kept: list[subprocess.Popen[bytes]] = []  # their standard input closes with this process, which ends them


def _early(environment: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key.startswith(_EARLY) and key not in _NOT_EARLY}


def _serve(address: str) -> None:
    """Fork for every request until standard input closes; the child returns from here, as the command."""
    for name in LIBRARIES:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    gc.freeze()  # nothing imported is looked at again: its memory stays shared
    os.write(1, b"ready\n")
    while True:
        ready, _, _ = select.select([0, listener, woken, *running.values()], [], [])
        if 0 in ready:
            for pid in running:
                _kill(pid)
            shutil.rmtree(Path(address).parent, ignore_errors=True)
            os._exit(0)
        if woken in ready:
            os.read(woken, 4096)
        for pid, client in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with contextlib.suppress(OSError):
                    client.sendall(_STATUS.pack(pid, status))
                running.pop(pid).close()
            elif client in ready:  # who asked was killed
                _kill(pid)
                running.pop(pid).close()
                os.waitpid(pid, 0)
        if listener not in ready:
            continue
        client, _ = listener.accept()
        asked = _receive(client)
        if asked is None:
            client.close()
            continue
        request, streams = asked
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (listener, client, *running.values()):
                each.close()
            os.close(woken)
            os.close(wake)
            os.setpgid(0, 0)
            _become(request, streams)
            return
        for stream in streams:
            os.close(stream)
        running[pid] = client
        client.sendall(_STATUS.pack(pid, -1))


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # its group is its own as soon as it has begun
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _receive(client: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    head, streams, _, _ = socket.recv_fds(client, _LENGTH.size, 3)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = b""
    while len(data) < length:
        part = client.recv(length - len(data))
        if not part:
            return None
        data += part
    return json.loads(data), list(streams)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Take over streams, folder, environment and arguments."""
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["argv"]
    real = sys.argv[0]
    sys.path[0] = str(Path(real).parent)
    sys.modules["__main__"].__file__ = real  # what `spawn` runs in its children
    sys.stdin = os.fdopen(0, closefd=False)
    if os.environ.get(_UNBUFFERED):
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    else:
        sys.stdout = os.fdopen(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)


def _run() -> int:
    """What the installed command does, and what the interpreter does at its end, without tearing all down."""
    name = Path(sys.argv[0]).name
    if name != "dvc" and any(key.startswith("COVERAGE_PROCESS_") for key in os.environ):
        import coverage

        coverage.process_startup()  # as a .pth file does where Python starts
    code: Any = None
    try:
        code = importlib.import_module(COMMANDS[name]).main()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


if __name__ == "__main__":
    _serve(sys.argv[1])
    os._exit(_run())
