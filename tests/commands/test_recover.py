"""What a killed `dvc` leaves half-written, and the real `dvc` before and after it is put right."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.exceptions import DvcException
from dvc.lock import make_lock
from dvc.repo import Repo

from labelstack.commands import recover
from labelstack.support.errors import UserError
from tiny import environment

STAGES = """stages:
  first:
    cmd: echo one > one
    outs: [one]
  second@a:
    cmd: cat one > two
    deps: [one]
    outs: [two]
  "third: x":
    cmd: cat two > three
    deps: [two]
    outs: [three]
"""
NAMES = ["first", "second", "third"]


def typed(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=600)


def read_by_dvc() -> bool:
    """Whether DVC takes dvc.lock, here."""
    try:
        with Repo(".") as repo:
            return len(repo.index.stages) == len(NAMES)
    except DvcException:
        return False


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished workspace whose dvc.lock is committed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "dvc.yaml").write_text(STAGES.replace("second@a", "second").replace('"third: x"', "third"))
    for command in (
        "git init -q",
        "dvc init -q",
        "dvc repro -q",
        "git add -A",
        "git -c user.name=t -c user.email=t@e.org commit -qm x",
    ):
        done = typed(folder, *command.split())
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def workspace(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(whole, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def test_what_reads_is_left_as_it_is(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in (workspace / "dvc.lock", workspace / ".dvc/tmp/rwlock")}
    recover.run()
    assert capsys.readouterr().out == "recover: nothing to put right\n"
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("text", ["", '{"write": {"/a', "[]"])
def test_a_rwlock_that_was_cut_off_stops_dvc_and_is_dropped(text: str, workspace: Path) -> None:
    (workspace / ".dvc/tmp/rwlock").write_text(text)
    assert typed(workspace, "dvc", "repro").returncode != 0
    assert "rwlock could not be read" in typed(workspace, "labelstack", "recover").stdout
    done = typed(workspace, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    assert "up to date" in done.stdout


def test_a_lock_file_cut_anywhere_keeps_its_whole_entries(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = workspace / "dvc.lock"
    text = file.read_text()
    assert list(recover.sound_entries(text)) == NAMES
    mended = 0
    for length in range(1, len(text), 3):
        file.write_text(text[:length])
        recover.run()
        found = file.read_text()
        assert read_by_dvc(), text[:length]
        if "could not be read: " in capsys.readouterr().out:
            mended += 1
            assert found == text  # what was lost is as it was committed
            assert recover.DAMAGED.read_text() == text[:length]
        else:
            assert found == text[:length]
    assert mended > 50


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_dvc_goes_on_from_what_is_left_without_a_commit(share: float, workspace: Path) -> None:
    shutil.rmtree(workspace / ".git")
    (workspace / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    text = (workspace / "dvc.lock").read_text()
    cut = text[: int(share * len(text))].rstrip() + "\n    ? {"
    (workspace / "dvc.lock").write_text(cut)
    assert typed(workspace, "dvc", "repro").returncode != 0
    recover.run()
    done = typed(workspace, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    assert (workspace / "dvc.lock").read_text() == text
    assert (workspace / "three").read_text() == "one\n"


def test_entries_in_other_forms_are_read() -> None:
    text = (
        "schema: '2.0'\nstages:\n  a@b-1:\n    cmd: x\n  'c: d':\n    cmd: >-\n      y\n\n      z\n  e:\n    outs: []\n"
    )
    entries = recover.sound_entries(text + "datasets:\n- name: f\n")
    assert list(entries) == ["a@b-1", "c: d"]
    assert "".join(entries.values()) in text


def test_a_dvc_that_is_at_work_is_left_alone(workspace: Path) -> None:
    (workspace / "dvc.lock").write_text("schema")
    lock = make_lock(".dvc/tmp/lock")
    with lock, pytest.raises(UserError, match="another `dvc` is at work"):
        recover.run()
    assert (workspace / "dvc.lock").read_text() == "schema"


def test_a_fresh_clone_has_no_place_for_locks_yet(workspace: Path) -> None:
    text = (workspace / "dvc.lock").read_text()
    (workspace / "dvc.lock").write_text(text[:-40] + "\n    ? {")
    shutil.rmtree(workspace / ".dvc/tmp")
    recover.run()
    assert (workspace / "dvc.lock").read_text() == text


def test_a_configuration_of_dvc_that_cannot_be_read_is_named(workspace: Path) -> None:
    (workspace / "dvc.lock").write_text("schema")
    (workspace / ".dvc/config").write_text("[core]\n    x = 1\n")
    with pytest.raises(UserError, match=r"configuration cannot be read \(.*'x'"):
        recover.run()
    assert (workspace / "dvc.lock").read_text() == "schema"


def test_a_merge_conflict_is_not_resolved(workspace: Path) -> None:
    text = f"<<<<<<< HEAD\n{(workspace / 'dvc.lock').read_text()}=======\n>>>>>>> other\n"
    (workspace / "dvc.lock").write_text(text)
    with pytest.raises(UserError, match="merge conflict"):
        recover.run()
    assert (workspace / "dvc.lock").read_text() == text


def test_elsewhere_it_says_where_to_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"run it in the folder of dvc\.yaml"):
        recover.run()
