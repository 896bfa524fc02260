"""`labelstack bench`: every way of stacking, side by side, on a cube of predictions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from labelstack.params.messages import explain
from labelstack.params.second_level_file import SecondLevel, default_second_level, for_label_groups
from labelstack.params.task import with_usual
from labelstack.support import storage
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.yaml_file import read_yaml

if TYPE_CHECKING:
    from labelstack.stacking.bench.cubes import Cube

PARAMS = Path("params.yaml")
SHIPPED = "shipped default"


def run(
    cube: str | None = None,
    params: str | None = None,
    members: str = "",
    reference_labels: int = 6,
    generate: str | None = None,
    seed: int = 0,
    nested: bool = True,
    strategy: str | None = None,
    json: str | None = None,
) -> None:
    """Print the table, write it as JSON where asked to, and end with one line on what won; see the command's help."""
    from labelstack.commands.bench_table import finish
    from labelstack.stacking.bench.table import bench

    if json is not None:
        storage.writable(json, "--json")
    settings, origin = read_settings(params)
    settings = overridden(settings, nested=nested, strategy=strategy)
    source, data = read_source(cube, generate, seed)
    if data.asked is not None:
        settings = for_label_groups(settings, shipped=origin == SHIPPED)
    names = [name.strip() for name in members.split(",") if name.strip()]
    rows = bench(data, settings, members=names, reference_labels=reference_labels, say=_say)
    finish(rows, data, settings, source=source, origin=origin, json=json)


def overridden(settings: SecondLevel, *, nested: bool = True, strategy: str | None = None) -> SecondLevel:
    """The settings with what the command line says instead."""
    content = settings.model_dump()
    content["folds"]["nested"] &= nested
    content["thresholds"]["strategy"] = settings.thresholds.strategy if strategy is None else strategy
    return _second_level(content, "bench")


def _second_level(content: dict[str, Any], source: str, *hint: str) -> SecondLevel:
    try:
        return SecondLevel.model_validate(content)
    except ValidationError as error:
        raise InputProblems(source, [*explain(error, SecondLevel), *hint]) from None


def read_settings(path: str | None) -> tuple[SecondLevel, str]:
    """The second level's sections of ``path`` or else ./params.yaml, the shipped ones for those that are not there.

    Returns where they are from too. ``default`` as path means the shipped ones. Raises ``InputProblems`` with every
    problem in these sections at once, ``UserError`` when the file named is absent, no YAML, or has none of them.
    """
    default = default_second_level()
    if path == "default" or (path is None and not PARAMS.exists()):
        return default, SHIPPED
    file = Path(path) if path else PARAMS
    try:
        content = read_yaml(file)
    except FileNotFoundError:
        raise UserError(f"{file}: not found") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a mapping with sections such as stackers and thresholds")
    content = with_usual(content)
    found = {name: content[name] for name in SecondLevel.model_fields if name in content}
    none = f"{file}: has none of the sections {', '.join(SecondLevel.model_fields)}"
    if not found and path:
        raise UserError(none)
    if not found:
        _say(f"{none}; using the shipped ones")
        return default, SHIPPED
    hint = [] if path else ["this is ./params.yaml; for the shipped second level instead: --params default"]
    return _second_level({"stackers": default.stackers} | found, str(file), *hint), str(file)


def read_source(cube: str | None = None, generate: str | None = None, seed: int = 0) -> tuple[str, Cube]:
    """The cube to measure on: a file, a generated one, or the predictions of this folder's pipeline."""
    from labelstack.stacking.bench import cubes, generator

    if cube is not None and generate is not None:
        raise UserError("bench: give a cube or --generate, not both")
    if cube is not None:
        return cube, cubes.read_cube(cube)
    if generate is None:
        return "the pipeline's predictions", pipeline_cube()
    shape = [part.strip() for part in generate.split(",")]
    if len(shape) != 3 or not all(part.isdecimal() for part in shape):
        raise UserError(f"--generate {generate}: expected images,models,labels, such as 9000,9,228")
    n, n_models, n_labels = map(int, shape)
    return f"generated, seed {seed}", generator.generate(n, n_models, n_labels, seed=seed)


def pipeline_cube() -> Cube:
    """Predictions of base and second-round models for validation, and for test where its answers are known."""
    import numpy as np

    from labelstack.params import load_params
    from labelstack.predictions import assemble_cube, read_predictions
    from labelstack.stacking.bench.cubes import Cube
    from labelstack.stages import paths
    from labelstack.stages.fold_files import stacking_rows
    from labelstack.stages.members import cube_members
    from labelstack.stages.rows import label_table
    from labelstack.stages.work.score_all import read_test_answers

    if not PARAMS.exists() or not paths.LABELS.exists():
        raise UserError(
            "bench: no cube given, and this folder holds no predictions of the pipeline; "
            "try `labelstack bench CUBE.npz` or `labelstack bench --generate 2000,5,40`"
        )
    params = load_params()
    rows, members = stacking_rows(params), cube_members(params)
    parts = {one.name: read_predictions(one.oof) for one in members}
    cube, labels = assemble_cube(parts, rows.row_id), rows.Y.astype(np.float32)
    answers = read_test_answers(label_table()) if paths.ANSWERS.exists() else None
    if answers is None:
        return Cube(cube, labels, models=tuple(parts))
    tests = {one.name: read_predictions(one.test) for one in members}
    known = np.isin(answers[0], tests[members[0].name].image_id)
    test_cube, test_labels = assemble_cube(tests, answers[0][known]), answers[1][known].astype(np.float32)
    return Cube(cube, labels, test_cube, test_labels, tuple(parts))


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
