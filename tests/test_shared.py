from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from shared import made_once


def made(folder: Path) -> None:
    folder.mkdir()
    (folder / "whole").touch()
    with (folder.parent / "calls").open("a") as calls:
        calls.write("made\n")


def killed(folder: Path) -> None:
    folder.mkdir()
    (folder / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def in_processes(folder: Path, *makers: object) -> list[int | None]:
    """Let a process with each maker ask for the folder; their exit codes."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=made_once, args=(folder, make)) for make in makers]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def test_many_ask_and_one_makes(tmp_path: Path) -> None:
    assert in_processes(tmp_path / "it", *[made] * 4) == [0] * 4
    assert (tmp_path / "calls").read_text() == "made\n"


def test_what_a_killed_worker_left_is_made_anew(tmp_path: Path) -> None:
    assert in_processes(tmp_path / "it", killed) == [-signal.SIGKILL]
    assert (tmp_path / "it/half").exists()
    assert made_once(tmp_path / "it", made) == tmp_path / "it"
    assert [file.name for file in (tmp_path / "it").iterdir()] == ["whole"]


@pytest.mark.parametrize("how", [AssertionError, pytest.fail.Exception, TimeoutError])
def test_a_failure_is_told_to_everybody_and_not_repeated(tmp_path: Path, how: type[BaseException]) -> None:
    def fails(folder: Path) -> None:
        folder.mkdir()
        raise how("stage train: no disk")

    with pytest.raises(how, match="no disk"):
        made_once(tmp_path / "it", fails)
    for _ in range(2):
        with pytest.raises(pytest.fail.Exception) as told:
            made_once(tmp_path / "it", made)
        assert "it, which many tests share, could not be made" in str(told.value)
        assert str(told.value).endswith(": stage train: no disk")
    assert not (tmp_path / "calls").exists()
