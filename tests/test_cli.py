import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labelstack.cli import app, main

ROOT = Path(__file__).resolve().parents[1]
STAGES = [
    "sample", "ingest", "download", "train", "predict", "stack", "blend", "evaluate", "register", "submit", "report",
]  # fmt: skip
HEAVY = [
    "tensorflow", "keras", "mlflow", "pandas", "numpy", "sklearn", "xgboost", "pyarrow", "cv2", "boto3", "matplotlib",
]  # fmt: skip


def labelstack(folder: Path, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TERM": "dumb", "COLUMNS": "120"}
    command = [sys.executable, *options, "-m", "labelstack.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1500)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_help_imports_nothing_heavy(tmp_path):
    done = labelstack(tmp_path, "--help", options=("-X", "importtime"))
    assert done.returncode == 0
    modules = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert {"typer", "labelstack.support.errors"} <= modules
    assert not modules & {*HEAVY, "labelstack.params"}


def test_help_names_every_stage(tmp_path):
    commands, stages = labelstack(tmp_path, "--help").stdout, labelstack(tmp_path, "stage", "--help").stdout
    assert all(f" {name} " in commands for name in ("leaderboard", "check", "ui", "predict", "stage"))
    assert all(f" {name} " in stages for name in STAGES)


def test_a_stage_typed_as_a_command_is_told_where_stages_are(tmp_path):
    done = labelstack(tmp_path, "train", "wide")
    assert done.returncode == 2
    assert done.stderr == "labelstack: train is a stage of dvc.yaml: labelstack stage train\n"


def test_check_imports_no_frameworks(folder):
    done = labelstack(folder, "check", options=("-X", "importtime"))
    modules = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "labelstack.params" in modules
    assert not modules & set(HEAVY)


def test_a_users_mistake_ends_with_its_message_and_code_2(folder):
    (folder / "params.yaml").write_text("seed: -1\nmodels: {a: {backbone: nasnett}}\nstackers: {s: {kind: cnn}}\n")
    done = labelstack(folder, "check")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("labelstack: params.yaml: 2 problems\n")
    assert "did you mean 'nasnet'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stage_without_its_inputs_says_so(folder):
    done = labelstack(folder, "leaderboard")
    assert done.returncode == 2
    assert "Run `dvc repro` first" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_what_is_there(here):
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 0
    assert result.stdout.startswith("params.yaml is valid: ")
    assert "5 stackers" in result.stdout


def test_check_says_which_files_of_the_data_set_are_missing(here):
    shutil.copy(ROOT / "recipes/imaterialist2018.yaml", here / "params.yaml")
    folder = here / "data/imaterialist2018"
    folder.mkdir(parents=True)
    for name in ("fgvc5_train.json", "validation.json", "test.json.zip", "iMat_fashion_2018_label_map_228.csv"):
        (folder / name).touch()
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 0
    first, *rest, last = result.stdout.splitlines()
    assert last.startswith("no dvc.yaml in this folder")
    assert first.startswith("params.yaml is valid: ")
    assert [line.split(": missing")[0] for line in rest] == [
        f"data/imaterialist2018/{name}" for name in ("train.json", "test.json", "labels.csv", "sample_submission.csv")
    ]
    assert "fgvc5_train.json may be it: rename it to train.json" in rest[0]
    assert "test.json.zip may be it: unpack it" in rest[1]
    assert "iMat_fashion_2018_label_map_228.csv may be it: rename it to labels.csv" in rest[2]


def test_check_without_params_says_where_to_run(here, capsys, monkeypatch):
    (here / "params.yaml").unlink()
    monkeypatch.setattr(sys, "argv", ["labelstack", "check"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "Run from the folder that holds dvc.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["stage train", "stage stack", "stage download", "rebuild", "remote"])
def test_stages_of_one_thing_need_its_name(here, typed):
    result = CliRunner().invoke(app, typed.split())
    assert result.exit_code == 2
    assert "Missing argument" in result.output


def test_predict_without_images_says_what_it_takes(here, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["labelstack", "predict"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "no images: give files" in capsys.readouterr().err


def test_an_unknown_split_is_answered_with_the_splits(here, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["labelstack", "stage", "download", "training"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "training: no such split (there are: train, validation, test)" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(here):
    result = CliRunner().invoke(app, [])
    assert "leaderboard" in result.output
    assert result.exit_code == 2


def test_a_port_that_is_none_is_refused(here):
    result = CliRunner().invoke(app, ["ui", "--port", "70000"])
    assert result.exit_code == 2
    assert "--port" in result.output
