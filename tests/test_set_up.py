"""What `make` finds out about the system before it installs anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
NOBODY = 65534


@pytest.fixture
def bare() -> Iterator[Path]:
    """A folder for PATH with what every system has and nothing else, which anybody may read."""
    with tempfile.TemporaryDirectory() as name:
        for tool in ("bash", "find", "grep", "id", "make"):
            found = shutil.which(tool)
            assert found
            (Path(name) / tool).symlink_to(found)
        Path(name).chmod(0o755)
        yield Path(name)


def checked(path: str, what: str) -> subprocess.CompletedProcess[str]:
    """Run the check as somebody who may install nothing, with this PATH."""
    return subprocess.run(
        ["/bin/bash", "-s", what], input=(REPOSITORY / ".ci/system").read_text(), capture_output=True, text=True,
        env={"PATH": path, "HOME": "/nowhere", "PYTHON": sys.executable}, cwd="/",
        user=NOBODY if os.geteuid() == 0 else None,
    )  # fmt: skip


def test_a_system_that_has_all_is_left_alone_in_silence() -> None:
    command = [REPOSITORY / ".ci/system", "test"]
    done = subprocess.run(command, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_sentence_names_what_another_system_lacks(bare: Path) -> None:
    done = checked(str(bare), "test")
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    for name in ("git", "Chromium", "its driver (chromedriver)", "your system's package manager"):
        assert name in sentence
    assert done.stdout == ""


def test_one_sentence_says_what_root_types_on_debian(bare: Path) -> None:
    (bare / "apt-get").symlink_to("/bin/false")  # must not be run
    done = checked(str(bare), "test")
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert "as root, type: apt-get update && apt-get install --no-install-recommends git" in sentence
    assert " chromium chromium-driver" in sentence
    (pipeline,) = checked(str(bare), "run").stderr.splitlines()
    assert "git" in pipeline
    assert "chromium" not in pipeline


@pytest.mark.parametrize(
    ("versions", "taken"),
    [
        ({"python3": True}, "python3"),
        ({"python3.11": False, "python3": True}, "python3"),  # a shim of a version that is not installed
        ({"python3.11": True, "python3": False}, "python3.11"),
        ({"python3": False}, "python3.11"),  # is named as missing
    ],
)
def test_python_is_found_by_its_version(bare: Path, versions: dict[str, bool], taken: str) -> None:
    for name, right in versions.items():
        (bare / name).write_text(f"#!{bare}/bash\nexit {0 if right else 1}\n")
        (bare / name).chmod(0o755)
    shown = subprocess.run(
        ["make", "-s", "--eval", "show: ; @echo $(PYTHON)", "show"], cwd=REPOSITORY, env={"PATH": str(bare)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() == taken
