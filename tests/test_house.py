"""The rules of the house: layers, no circles, one name one place, and pages and hooks that say what is so."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import yaml

from labelstack.cli import app
from labelstack.params import Params
from labelstack.params.backbone_names import OWN
from labelstack.params.dataset import FORMATS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/labelstack"
FILES = sorted(PACKAGE.rglob("*.py"))
SHIM = PACKAGE / "tracking/ensemble.py"  # a name that versions registered before ask for


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """What `make lint` runs, in a folder with pyproject.toml and src."""
    command = ["lint-imports", "--no-cache", "--config", str(folder / "pyproject.toml")]
    environment = {"PATH": str(Path(shutil.which("lint-imports") or "").parent), "PYTHONPATH": str(folder / "src")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_arrows_run_down_and_nowhere_in_circles() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout
    assert "Arrows run down KEPT" in done.stdout
    assert "No circles KEPT" in done.stdout


def test_an_arrow_up_and_a_circle_are_seen(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    copy = shutil.copytree(PACKAGE, tmp_path / "src/labelstack", ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "scoring/metrics.py").open("a") as file:
        file.write("\nimport labelstack.stages.paths\n")
    with (copy / "stacking/folds.py").open("a") as file:
        file.write("\nimport labelstack.stacking.crossfit\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert "labelstack.scoring.metrics -> labelstack.stages.paths" in done.stdout
    assert "No circles BROKEN" in done.stdout


def given_names() -> set[str]:
    """Names that dvc.yaml, the command line and params.yaml give to files."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    groups = {str(group.name) for group in app.registered_groups}
    return {
        *stages,
        *commands,
        *groups,
        *Params.model_fields,
        *FORMATS.own,
        *(backbone.module.rpartition(".")[2] for backbone in OWN.values()),
    }


def test_no_two_files_of_different_rooms_have_one_name() -> None:
    places, given = defaultdict(list), given_names()
    for file in FILES:
        if file.name != "__init__.py" and file.stem not in given and file != SHIM:
            places[file.stem].append(file.relative_to(PACKAGE).as_posix())
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_two_classes_have_one_name() -> None:
    places = defaultdict(list)
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(file.relative_to(PACKAGE).as_posix())
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_every_stage_and_section_has_its_file() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert [name for name in stages if not (PACKAGE / "stages" / f"{name}.py").exists()] == []
    sections = set(Params.model_fields) - {"seed"}
    assert [name for name in sections if not (PACKAGE / "params" / f"{name}.py").exists()] == []


def test_the_page_of_questions_names_files_that_there_are() -> None:
    files = re.findall(r"^\| \d+ \| .+ \| `(.+)` \|$", (ROOT / "docs/where.md").read_text(), re.MULTILINE)
    assert len(files) == 24
    assert [name for name in files if not (PACKAGE / name).is_file()] == []


def test_hooks_and_workflow_run_what_make_runs() -> None:
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == [line.strip() for line in recipe.splitlines()]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert {"run": ".ci/run"} in workflow["jobs"]["test"]["steps"]
