"""Every recipe in recipes/: written by the command, and rehearsed from sample to report by the real `dvc repro`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import yaml

import warm
from labelstack.commands import recipe
from labelstack.params import load_params
from labelstack.rehearsal.shrink import N_ATTRIBUTES, N_IMAGES, N_MASKED, kept_models, kept_stackers
from tiny import REPOSITORY, Workspace, environment

# The command, whose stages are forked by the process of warm.py; `make test-full` starts each anew.
FORKING = """
import os, sys
from labelstack.cli import main
from labelstack.rehearsal import copy
usual, warm, sys.argv = copy.environment, sys.argv[1], ["labelstack", *sys.argv[2:]]
def environment(folder):
    own = usual(folder)
    return own | {"PATH": warm + os.pathsep + own["PATH"], "TF_CPP_MIN_LOG_LEVEL": "3"}
copy.environment = environment
main()
"""
RECIPES = sorted(file.stem for file in (REPOSITORY / "recipes").glob("*.yaml"))


@pytest.fixture
def clone(tmp_path: Path) -> Workspace:
    """A workspace with recipes beside dvc.yaml, as in a clone."""
    workspace = Workspace(tmp_path / "clone")
    shutil.copytree(REPOSITORY / "recipes", workspace.root / "recipes")
    return workspace


def state(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below a folder, caches excepted."""
    files = [file for file in root.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    return {str(file.relative_to(root)): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_rehearsed_to_the_end(name: str, clone: Workspace, tmp_path: Path) -> None:
    folder, before = tmp_path / "kept", state(clone.root)
    elsewhere = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "DVC_REMOTE": "mine"}  # where nobody answers
    quick = warm.folder()
    command = [sys.executable, "-c", FORKING, quick] if quick else ["labelstack"]
    done = subprocess.run(
        [*command, "recipe", name, "--rehearse", "--keep", str(folder)], cwd=clone.root, text=True,
        env=environment() | elsewhere, capture_output=True, timeout=1700,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert state(clone.root) == before
    ran = [line.removeprefix("rehearsal: stage ") for line in done.stdout.splitlines() if "rehearsal: stage" in line]
    assert set(ran) == set(yaml.safe_load((folder / "dvc.lock").read_text())["stages"])
    assert {"sample", "report"} <= set(ran)
    last = f"recipe: {name} rehearsed, {len(ran)} stages from {ran[0]} to {ran[-1]} in "
    assert done.stdout.splitlines()[-1].startswith(last)

    recipe = load_params(REPOSITORY / "recipes" / f"{name}.yaml")
    students = [name for name, section in recipe.second_round.items() if not section.files()]
    members = [*kept_models(recipe), *students, *kept_stackers(recipe)]
    assert set(json.loads((folder / "metrics/evaluation.json").read_text())["scores"]) >= {*members, "blend"}
    assert "<html" in (folder / "report/index.html").read_text()[:2000]
    assert recipe.dataset.format != "imet2019" or {"per_fold", "mean_count"} <= set(
        json.loads((folder / "metrics/decisions.json").read_text())
    )
    attributes = recipe.dataset.format == "fashionai2018"
    file = folder / recipe.submission.directory / recipe.submission.filename
    submission = pd.read_csv(file, header=None if attributes else 0)
    masked = recipe.dataset.format == "imaterialist2019"
    if masked:  # a row for each region, and the masks of every photo
        assert len(submission) == json.loads((folder / "metrics/submission.json").read_text())["rows"]
        masks = pd.read_csv(file.with_name("masks.csv"))
        asked = pd.read_csv(folder / recipe.dataset.root / "sample_submission.csv")
        assert list(dict.fromkeys(masks["ImageId"])) == list(dict.fromkeys(asked["ImageId"]))
        assert json.loads((folder / "metrics/masks.json").read_text())["out_of_fold"]["categories_alone"]["score"] > 0
    else:
        assert len(submission) == N_IMAGES["test"]
    downloads = [json.loads((folder / f"metrics/download/{split}.json").read_text()) for split in N_IMAGES]
    there = N_IMAGES | ({"validation": 0} if recipe.dataset.format == "imet2019" else {})
    counts = [of_split["ok"] for of_split in downloads]
    if masked:
        assert counts == [N_MASKED["train"], 0, N_MASKED["test"]]
    elif attributes:
        assert (counts[0] + counts[1], counts[2]) == (N_ATTRIBUTES["train"], N_ATTRIBUTES["test"])
    else:
        assert counts == list(there.values())

    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        versions = store.execute("SELECT name, version FROM model_versions").fetchall()
    alone = [f"{recipe.tracking.registered_model}-{name}" for name in recipe.tracking.alone]
    assert versions == [(name, 1) for name in (recipe.tracking.registered_model, *alone)]
    assert json.loads((folder / "models/ensemble/registration.json").read_text())["version"] == 1


def test_a_key_that_dvc_misses_is_found_by_the_rehearsal_and_the_folder_kept(clone: Workspace) -> None:
    recipe = yaml.safe_load((clone.root / "recipes/photos.yaml").read_text())
    del recipe["submission"]  # has defaults, so labelstack itself does not miss it
    (clone.root / "recipes/lacking.yaml").write_text(yaml.safe_dump(recipe))
    done = clone.run("labelstack", "recipe", "lacking", "--rehearse", ok=False, measured=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "failed before any stage" in done.stderr
    assert "submission.directory" in done.stderr
    (kept,) = [word.rstrip(";") for word in done.stderr.split() if "labelstack-rehearsal-lacking-" in word]
    assert (Path(kept) / "rehearsal.log").is_file()
    shutil.rmtree(kept)


def test_a_rehearsal_leaves_nothing_when_it_was_not_asked_to(clone: Workspace, tmp_path: Path) -> None:
    graph = {"stages": {"sample": {"cmd": "labelstack stage sample", "params": ["seed"], "outs": ["data/sample"]}}}
    (clone.root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        ["labelstack", "recipe", "photos", "--rehearse"], cwd=clone.root, text=True, capture_output=True,
        env=environment(measured=True) | {"TMPDIR": str(tmp_path / "tmp")}, timeout=300, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1].endswith(", removed")
    assert not [file for file in os.listdir(tmp_path / "tmp") if file.startswith("labelstack")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_rehearsal_ends_its_stage_and_leaves_nothing(number, clone: Workspace, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    graph = {"stages": {"sample": {"cmd": f"echo $$ > {mark}.new; mv {mark}.new {mark}; sleep 300"}}}
    (clone.root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        ["labelstack", "recipe", "photos", "--rehearse"], cwd=clone.root, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=environment() | {"TMPDIR": str(tmp_path / "tmp")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )  # fmt: skip
    while not mark.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait() != 0
    stage = Path("/proc", mark.read_text().strip(), "stat")
    while stage.exists() and stage.read_text().split()[2] != "Z":  # until it has noticed; a stage left would sleep on
        time.sleep(0.05)
    assert not [file for file in os.listdir(tmp_path / "tmp") if file.startswith("labelstack")]


def test_a_folder_that_holds_something_is_not_rehearsed_in(clone: Workspace, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    for keep in (tmp_path / "mine", tmp_path / "mine" / "file"):
        done = clone.run("labelstack", "recipe", "photos", "--rehearse", "--keep", str(keep), ok=False)
        assert done.returncode == 2
        assert done.stderr.startswith(f"labelstack: --keep {keep}: ")


def test_recipes_are_listed_with_the_first_line_of_each(clone: Workspace) -> None:
    lines = clone.run("labelstack", "recipe").stdout.splitlines()
    assert [line.split()[0] for line in lines] == RECIPES
    for name, line in zip(RECIPES, lines, strict=True):
        first = (clone.root / "recipes" / f"{name}.yaml").read_text().splitlines()[0]
        assert line.endswith(first.removeprefix("# "))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "imaterialist2018",
            ["train.json, validation.json, test.json", "data/imaterialist2018/", "labels.csv", "sample_submission.csv",
             "ImageNet", "densenet201", 'yes (mixed precision, all GPUs of the machine): pip install -e ".[gpu]"'],
        ),
        ("photos", ["data/photos/", "127.0.0.1:8765", "of ImageNet, out of packages", "GPU      not needed"]),
    ],
)  # fmt: skip
def test_a_recipe_is_written_and_says_what_it_needs(name: str, said: list[str], clone: Workspace) -> None:
    out = clone.run("labelstack", "recipe", name, "--to", "new.yaml").stdout
    assert (clone.root / "new.yaml").read_bytes() == (clone.root / "recipes" / f"{name}.yaml").read_bytes()
    for text in [*said, "dvc repro", "there is no such folder yet"]:
        assert text in out
    root = clone.root / load_params(clone.root / "new.yaml").dataset.root
    root.mkdir(parents=True)
    for file in ("train.json", "validation.json", "test.json"):
        (root / file).write_text("{}")
    out = clone.run("labelstack", "recipe", name, "--to", "new.yaml").stdout  # the same again
    assert f"{root.relative_to(clone.root)}/labels.csv: missing" in out
    assert "train.json: missing" not in out


def test_weights_out_of_packages_are_told_apart_from_those_that_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "dvc.yaml").touch()
    names = ("mobilenet", "efficientnet_lite1", "efficientnet_lite0")
    models = {f"net_{name}": {"backbone": name, "weights": "imagenet"} for name in names}
    (tmp_path / "recipes/leaf.yaml").write_text(
        yaml.safe_dump({"models": models, "stackers": {"trees": {"kind": "xgboost"}}})
    )
    monkeypatch.chdir(tmp_path)
    recipe.run("leaf", Path("params.yaml"))
    out = capsys.readouterr().out
    assert "fetched by keras.applications when training begins: mobilenet\n" in out
    assert 'out of packages (pip install -e ".[pretrained]"): efficientnet_lite0, efficientnet_lite1\n' in out


def test_a_file_that_differs_is_replaced_only_when_told_so(clone: Workspace) -> None:
    before = (clone.root / "params.yaml").read_bytes()
    done = clone.run("labelstack", "recipe", "photos", ok=False)
    assert done.returncode == 2
    assert "params.yaml: holds something else" in done.stderr
    assert "--force" in done.stderr
    assert (clone.root / "params.yaml").read_bytes() == before
    clone.run("labelstack", "recipe", "photos", "--force")
    assert (clone.root / "params.yaml").read_bytes() == (clone.root / "recipes/photos.yaml").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photo"], "unknown recipe 'photo'; did you mean 'photos'? (known: "),
        (["photo", "--rehearse"], "unknown recipe 'photo'; did you mean 'photos'?"),
        (["photos", "--to", "src"], "--to src: is a folder"),
        (["photos", "--to", "params.yaml/new.yaml"], "--to params.yaml/new.yaml: can't be written"),
        (["--rehearse"], "--rehearse with a recipe's name"),
        (["photos", "--keep", "kept"], "--keep goes with --rehearse"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], said: str, clone: Workspace) -> None:
    done = clone.run("labelstack", "recipe", *arguments, ok=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clone.root / "kept").exists()


def test_away_from_the_clone_the_command_says_where_recipes_are(tmp_path, monkeypatch) -> None:
    from labelstack.support.errors import UserError

    monkeypatch.chdir(tmp_path)
    assert recipe.project_root() == REPOSITORY  # an editable install knows its clone
    monkeypatch.setattr(recipe, "__file__", str(tmp_path / "lib/python/labelstack/commands/recipe.py"))
    with pytest.raises(UserError, match="recipes lie in the clone of the project"):
        recipe.project_root()
