"""`labelstack bench`: every way of stacking, side by side, on a cube of predictions."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from labelstack.params.messages import explain
from labelstack.params.second_level_file import SecondLevel, default_second_level
from labelstack.support import storage
from labelstack.support.errors import InputProblems, UserError
from labelstack.support.yaml_file import read_yaml

if TYPE_CHECKING:
    from labelstack.stacking.bench.cubes import Cube
    from labelstack.stacking.bench.table import BenchResult

PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Options:
    """The options of the command; see its help."""

    cube: str | None = None
    params: str | None = None
    members: str = ""
    reference_labels: int = 6
    generate: str | None = None
    seed: int = 0
    nested: bool = True
    strategy: str | None = None
    json: str | None = None


def run(options: Options) -> None:
    """Print the table, write it as JSON where asked to, and end with one line on what won."""
    from labelstack.stacking.bench.table import bench

    if options.json is not None:
        storage.writable(options.json, "--json")
    settings, origin = read_settings(options.params)
    settings = overridden(settings, options)
    source, data = read_source(options)
    members = [name.strip() for name in options.members.split(",") if name.strip()]
    result = bench(data, settings, members=members, reference_labels=options.reference_labels, say=_say)
    finish(result, data, settings, source=source, origin=origin, json=options.json)


def overridden(settings: SecondLevel, options: Options) -> SecondLevel:
    """The settings with what the command line says instead."""
    content = settings.model_dump()
    if not options.nested:
        content["folds"]["nested"] = False
    if options.strategy is not None:
        content["thresholds"]["strategy"] = options.strategy
    try:
        return SecondLevel.model_validate(content)
    except ValidationError as error:
        raise InputProblems("bench", explain(error, SecondLevel)) from None


def finish(
    result: BenchResult, data: Cube, settings: SecondLevel, *, source: str, origin: str, json: str | None = None
) -> None:
    """Tables, JSON, last line; raise ``UserError`` when a method failed."""
    from labelstack.commands.bench_table import print_tables, verdict

    about = describe(data, settings, source, origin)
    print_tables(result, about, settings)
    if json:
        storage.write_json(json, {**about, "settings": settings.model_dump(mode="json"), **result.to_dict()})
    failed = [f"{row.name} ({row.error})" for row in result.rows if row.error]
    print(f"bench: {verdict(result, settings)} → {json or 'printed only; --json FILE keeps it'}", flush=True)
    if failed:
        raise UserError(f"bench: {len(failed)} of {len(result.rows)} methods failed: {'; '.join(failed)}")


def describe(data: Cube, settings: SecondLevel, source: str, origin: str) -> dict[str, Any]:
    """What was measured on what, for the table's head and the JSON."""
    from labelstack.scoring.metric import metric_of

    n, n_models, n_labels = data.cube.shape
    return {
        "source": source,
        "params": origin,
        "images": n,
        "models": n_models,
        "labels": n_labels,
        "test_images": 0 if data.test_cube is None else len(data.test_cube),
        "folds": settings.folds.k,
        "metric": metric_of(settings.metric).decides.title,
        "cpus": os.cpu_count(),
    }


def read_settings(path: str | None) -> tuple[SecondLevel, str]:
    """The second level's sections, and where they are from.

    Of ``path``, or of ./params.yaml where it has such sections; sections that are not there are the shipped ones. Other
    sections are not looked at. ``default`` as path means the shipped ones.

    Raises
    ------
    InputProblems
        With every problem in these sections at once.
    UserError
        When the file named is absent, no YAML, or has none of the sections.
    """
    default = default_second_level()
    if path == "default" or (path is None and not PARAMS.exists()):
        return default, "shipped default"
    file = Path(path) if path else PARAMS
    content = _yaml(file)
    found = {name: content[name] for name in SecondLevel.model_fields if name in content}
    if not found and path is None:
        _say(f"{file}: has none of the sections {', '.join(SecondLevel.model_fields)}; using the shipped ones")
        return default, "shipped default"
    if not found:
        raise UserError(f"{file}: has none of the sections {', '.join(SecondLevel.model_fields)}")
    try:
        return SecondLevel.model_validate({"stackers": default.stackers} | found), str(file)
    except ValidationError as error:
        hint = [] if path else ["this is ./params.yaml; for the shipped second level instead: --params default"]
        raise InputProblems(str(file), [*explain(error, SecondLevel), *hint]) from None


def _yaml(file: Path) -> dict[Any, Any]:
    try:
        content = read_yaml(file)
    except FileNotFoundError:
        raise UserError(f"{file}: not found") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a mapping with sections such as stackers and thresholds")
    return content


def read_source(options: Options) -> tuple[str, Cube]:
    """The cube to measure on: a file, a generated one, or the predictions of this folder's pipeline."""
    from labelstack.stacking.bench.cubes import read_cube
    from labelstack.stacking.bench.generator import generate

    if options.cube is not None and options.generate is not None:
        raise UserError("bench: give a cube or --generate, not both")
    if options.cube is not None:
        return options.cube, read_cube(options.cube)
    if options.generate is not None:
        n, n_models, n_labels = _shape(options.generate)
        name = f"generated, seed {options.seed}"
        return name, generate(n, n_models, n_labels, seed=options.seed)
    return "the pipeline's predictions", pipeline_cube()


def _shape(text: str) -> list[int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise UserError(f"--generate {text}: expected images,models,labels, such as 9000,9,228")
    return [int(part) for part in parts]


def pipeline_cube() -> Cube:
    """Predictions of the base models for validation, and for test where its answers are known."""
    import numpy as np

    from labelstack.params import load_params
    from labelstack.predictions import assemble_cube, read_predictions
    from labelstack.stacking.bench.cubes import Cube
    from labelstack.stages import paths
    from labelstack.stages.members import base_models
    from labelstack.stages.rows import label_table, stacking_rows
    from labelstack.stages.work.score_all import read_test_answers

    if not PARAMS.exists() or not paths.LABELS.exists():
        raise UserError(
            "bench: no cube given, and this folder holds no predictions of the pipeline; "
            "try `labelstack bench CUBE.npz` or `labelstack bench --generate 2000,5,40`"
        )
    params = load_params()
    rows, members = stacking_rows(), base_models(params)
    models = tuple(member.name for member in members)

    def cube(part: str, row_id: Any) -> Any:
        parts = {one.name: read_predictions(one.oof if part == "oof" else one.test) for one in members}
        return assemble_cube(parts, row_id)

    answers = read_test_answers(label_table()) if paths.ANSWERS.exists() else None
    test_cube = test_labels = None
    if answers is not None:
        present = read_predictions(members[0].test).image_id
        known = np.isin(answers[0], present)
        test_cube, test_labels = cube("test", answers[0][known]), answers[1][known].astype(np.float32)
    return Cube(cube("oof", rows.row_id), rows.Y.astype(np.float32), test_cube, test_labels, models)


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
