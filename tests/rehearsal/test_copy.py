"""The project's copy: what it holds, and that nothing of the user's is reached from it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from labelstack.rehearsal.copy import copy_project, environment, reproduce
from labelstack.support.errors import UserError


def project(root: Path, **stages: dict) -> Path:
    root.mkdir()
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / "params.yaml").write_text("seed: 1\n")
    (root / ".gitignore").write_text("/data/\n")
    (root / "src" / "__pycache__").mkdir(parents=True)
    (root / "src" / "stage.py").write_text("print('hello')\n")
    (root / "data").mkdir()
    (root / "data" / "big.bin").write_text("of the user")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    remote = mine\n")
    return root


def test_code_is_copied_and_neither_data_nor_outputs_nor_remotes(tmp_path):
    (tmp_path / "copy").mkdir()
    root = project(
        tmp_path / "project",
        make={"cmd": "python src/stage.py", "deps": ["src/stage.py", "tools/extra.py", "${dataset.root}"]},
        each={
            "foreach": ["a"],
            "do": {
                "cmd": "true",
                "deps": ["data/made/${item}", "data/made", "models/m.bin", "../outside", "params.yaml"],
                "outs": ["data/made/${item}/x", {"models/m.bin": {"cache": False}}],
            },
        },
    )
    (root / "tools").mkdir()
    (root / "tools" / "extra.py").write_text("")
    (root / "data" / "made").mkdir()
    (root / "data" / "made" / "old").write_text("of the user")
    (root / "models").mkdir()
    (root / "models" / "m.bin").write_text("of the user")
    for folder in (tmp_path / "outside", root / "photos"):
        folder.mkdir()
        (folder / "train.json").write_text("of the user")
    copy_project(root, tmp_path / "copy", {"seed": 2, "dataset": {"root": "photos"}})
    committed = subprocess.run(
        ["git", "ls-files"], cwd=tmp_path / "copy", capture_output=True, text=True, check=True
    ).stdout.split()
    assert committed == [
        ".dvc/.gitignore", ".dvc/config", ".gitignore", "dvc.yaml", "params.yaml", "src/stage.py", "tools/extra.py",
    ]  # fmt: skip
    assert yaml.safe_load((tmp_path / "copy" / "params.yaml").read_text())["seed"] == 2
    assert "remote" not in (tmp_path / "copy" / ".dvc" / "config").read_text()


def test_a_failed_stage_is_named_with_its_message(tmp_path):
    (tmp_path / "copy").mkdir()
    stages = {
        "fine": {"cmd": "echo fine > out.txt", "outs": ["out.txt"]},
        "broken": {"cmd": "echo cannot go on >&2; exit 3", "deps": ["out.txt"]},
        "after": {"cmd": "echo never", "deps": ["out.txt", "src/stage.py"]},
    }
    copy_project(project(tmp_path / "project", **stages), tmp_path / "copy", {})
    told: list[str] = []
    outcome = reproduce(tmp_path / "copy", told.append)
    assert outcome.stages[-1] == "broken"
    assert outcome.stages == told
    assert "cannot go on" in outcome.message
    assert "Running stage 'fine'" not in outcome.message
    assert "cannot go on" in (tmp_path / "copy" / "rehearsal.log").read_text()


def test_all_stages_run_and_there_is_no_message(tmp_path):
    (tmp_path / "copy").mkdir()
    copy_project(project(tmp_path / "project", only={"cmd": "echo hello"}), tmp_path / "copy", {})
    outcome = reproduce(tmp_path / "copy", lambda stage: None)
    assert (outcome.stages, outcome.message) == (["only"], "")


def test_the_environment_leads_nowhere_else(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "DVC_STUDIO_TOKEN", "GIT_DIR"):
        monkeypatch.setenv(name, "elsewhere")
    found = environment(tmp_path)
    assert "elsewhere" not in found.values()
    assert found["DVC_GLOBAL_CONFIG_DIR"].startswith(str(tmp_path))


def test_an_unreadable_graph_is_said(tmp_path):
    (tmp_path / "copy").mkdir()
    root = project(tmp_path / "project")
    (root / "dvc.yaml").write_text("stages: [")
    with pytest.raises(UserError, match=r"dvc\.yaml: line .* not valid YAML"):
        copy_project(root, tmp_path / "copy", {})
