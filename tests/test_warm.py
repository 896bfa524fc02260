"""The quick `labelstack` and `dvc` of the tests do what the real ones do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from coverage import CoverageData

import warm

REAL = str(Path(sys.executable).with_name("labelstack"))


@pytest.fixture(scope="module")
def quick() -> str:
    place = warm.folder()
    if place is None:
        pytest.skip("only real commands are wanted")
    return f"{place}/labelstack"


def environment(**change: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COVERAGE_", "TF_CPP"))}
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "3"} | change


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["check"], 2), (["nonsense"], 2), (["check", "--help"], 0), (["predict", os.fsdecode(b"\xff.jpg")], 2)],
)
def test_output_and_exit_code(quick: str, tmp_path: Path, arguments: list[str], code: int) -> None:
    one, other = (
        subprocess.run([program, *arguments], cwd=tmp_path, env=environment(), capture_output=True)
        for program in (quick, REAL)
    )
    assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)
    assert one.returncode == code
    assert one.stdout + one.stderr


@pytest.mark.parametrize("arguments", [["status"], ["nonsense"], ["init", "--no-scm", "-q"], ["repro"]], ids=str)
def test_dvc_too(quick: str, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: 'echo said; exit 3'}}\n")
    found = []
    for place in (Path(quick).parent, Path(REAL).parent):
        if arguments == ["repro"]:
            subprocess.run([place / "dvc", "init", "--no-scm", "-q", "-f"], cwd=tmp_path, env=environment(), check=True)
        done = subprocess.run([place / "dvc", *arguments], cwd=tmp_path, env=environment(), capture_output=True)
        found.append((done.returncode, done.stdout, done.stderr))
        shutil.rmtree(tmp_path / ".dvc", ignore_errors=True)
    assert found[0] == found[1]
    assert (found[0][0] == 0) == (arguments[0] == "init")


@pytest.mark.parametrize(
    ("arguments", "code"), [(["end", "check", "nonsense"], 2), (["fail", "check", "nonsense", "--help"], 0)], ids=str
)
def test_lines_too(quick: str, tmp_path: Path, arguments: list[str], code: int) -> None:
    places = ([*warm.lines()], [sys.executable, str(Path(warm.__file__).with_name("lines.py"))])
    assert places[0] == [str(Path(quick).with_name("lines.py"))]
    one, other = (
        subprocess.run([*place, *arguments], cwd=tmp_path, env=environment(), capture_output=True) for place in places
    )
    assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)
    assert one.returncode == code
    assert (b"nonsense" in one.stderr) == (arguments[0] == "fail")


def in_folder(folder: Path) -> list[psutil.Process]:
    """Processes whose current folder this is."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("number", "change"), [(signal.SIGKILL, {}), (signal.SIGTERM, {"PYTHONUNBUFFERED": "1", "LD_LIBRARY_PATH": "/x"})]
)
def test_who_kills_the_small_program_ends_the_command(
    quick: str, tmp_path: Path, number: signal.Signals, change: dict[str, str]
) -> None:
    os.mkfifo(tmp_path / "params.yaml")  # is read without end, for nobody writes
    process = subprocess.Popen([quick, "check"], cwd=tmp_path, env=environment(**change), stderr=subprocess.DEVNULL)
    while len(in_folder(tmp_path)) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait() == -number
    while in_folder(tmp_path):
        time.sleep(0.02)


def test_the_real_one_runs_where_python_starts_otherwise(quick: str, tmp_path: Path) -> None:
    (tmp_path / "labelstack").mkdir()
    (tmp_path / "labelstack/__init__.py").write_text("")
    (tmp_path / "labelstack/cli.py").write_text("def main():\n    print('another one')\n")
    done = subprocess.run([quick], env=environment(PYTHONPATH=str(tmp_path)), capture_output=True, text=True)
    assert done.stdout == "another one\n"


def test_the_same_lines_are_measured(quick: str, tmp_path: Path) -> None:
    (tmp_path / "rc").write_text("[run]\nsource = labelstack\n")
    found = []
    for program in (quick, REAL):
        measured = {"COVERAGE_PROCESS_START": str(tmp_path / "rc"), "COVERAGE_FILE": str(tmp_path / "data")}
        subprocess.run([program, "check"], cwd=tmp_path, env=environment(**measured), capture_output=True)
        data = CoverageData(str(tmp_path / "data"))
        data.read()
        found.append({file: sorted(data.lines(file) or []) for file in data.measured_files()})
        (tmp_path / "data").unlink()
    assert found[0] == found[1]
    assert {"cli.py", "check.py"} <= {Path(file).name for file, lines in found[0].items() if lines}
