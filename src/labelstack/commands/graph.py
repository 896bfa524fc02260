"""Command `graph`: which stage depends on which params, files and rooms of code, as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from labelstack.stages import paths
from labelstack.stages.code import APART, NEVER, NOUNS, ROOTS, VARIANTS, apart, modules, places_of, variants
from labelstack.stages.common import done
from labelstack.stages.settings import UNDECIDING
from labelstack.support.closure import sources
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing
from labelstack.support.yaml_file import read_yaml

_HEAD = """# What reruns what

Written by `labelstack graph`; a test compares it with the code and dvc.yaml.

A stage reruns when a key of its params, one of its files or the code that makes its results changes, and for nothing
else. Params and code stand in `data/settings.json`: params.yaml with all defaults resolved, and for each stage a digest
of the modules that its results are made by (comments, docstrings and layout do not count). Whoever reads many members
depends on `data/members/*.json`, which lists them in the order of params.yaml.
"""


def run(to: Path) -> None:
    """Write the page."""
    text = page(stages(Path("dvc.yaml")))
    with replacing(to) as temporary:
        temporary.write_text(text, encoding="utf-8")
    done("graph", f"{len(ROOTS)} stages, {len(rooms())} rooms of code", to)


def stages(file: Path) -> dict[str, dict[str, Any]]:
    """Stages of a dvc.yaml, those of a `foreach` once; raise ``UserError`` where there is none."""
    try:
        content = read_yaml(file)
    except FileNotFoundError:
        raise UserError(f"{file}: not found. Run from the folder that holds dvc.yaml.") from None
    return {name: stage.get("do", stage) for name, stage in content["stages"].items()}


def params_of(stage: dict[str, Any]) -> dict[str, list[str]]:
    """File → keys that a stage's ``params`` take of it."""
    found: dict[str, list[str]] = {}
    for entry in stage.get("params", []):
        for file, keys in entry.items() if isinstance(entry, dict) else [("params.yaml", [entry])]:
            found.setdefault(file, []).extend(keys)
    return found


def rooms() -> list[str]:
    """Folders of the source and files beside them, as the table calls them."""
    return sorted({room_of(module) for module in sources().modules if "." in module})


def room_of(module: str) -> str:
    """The room of a module: its folder below the package, or the file itself where it lies in none."""
    file = sources().modules[module].relative_to(sources().package)
    return file.parent.as_posix() if len(file.parts) > 1 else file.name


def page(table: dict[str, dict[str, Any]]) -> str:
    """The page's text for the stages of a dvc.yaml."""
    reached = {stage: _reached(stage) for stage in ROOTS}
    parts = [_HEAD, "## Stages\n", _table(("stage", "params", "files", "members"), map(_stage, table, table.values()))]
    parts.append("## Rooms of code\n\nThe number of a room's files that decide a stage's results.\n")
    counted = [[f"`{room}`", *(_count(reached[stage], room) for stage in ROOTS)] for room in rooms()]
    parts.append(_table(("", *ROOTS), (row for row in counted if any(row[1:]))))
    parts.append(_variants())
    parts.append("## What decides nothing\n")
    apart = [[_listed([_short(name)]), why] for name, why in (APART | NEVER).items()]
    parts.append(_table(("code", "what it is"), apart))
    parts.append(
        f"Of these, {_listed(map(_short, NEVER))} are out of reach of all that computes; `register` and `report`, "
        "whose work they are, depend on them.\n"
    )
    parts.append(_table(("param", "what it is"), ([f"`{key}`", why] for key, why in UNDECIDING.items())))
    return "\n".join(parts)


def _stage(name: str, stage: dict[str, Any]) -> list[str]:
    params = params_of(stage)
    settings = [key for key in params.get(paths.SETTINGS.as_posix(), []) if not key.startswith("code.")]
    told = [f"{Path(file).stem}: {', '.join(keys)}" for file, keys in params.items() if "data/members" in file]
    files = [*stage.get("deps", []), *(file for file in params if Path(file).name == paths.LOCAL_FILES.name)]
    return [f"`{name}`", _listed(settings), _listed(files), "<br>".join(told)]


def _variants() -> str:
    lines = []
    for noun, (catalogue, _) in NOUNS.items():
        those = [stage for stage, nouns in VARIANTS.items() if noun in nouns]
        common = {module for stage in those for module in modules(stage)}
        rows = []
        for name in catalogue.own:
            roots = [place.partition(":")[0] for place in places_of(noun, name)]
            files = [module for module in sources().closure(roots, apart(those[0])) if module not in common]
            rows.append([f"`{name}`", _listed(map(_short, files))])
        lines += [f"Besides what all have in common, the files of the chosen {noun} count for {_listed(those)}:\n"]
        lines += [_table((noun, "files"), rows)]
    return "\n".join(lines)


def _reached(stage: str) -> set[str]:
    return {module for names in variants(stage) for module in modules(stage, *names)}


def _count(reached: Iterable[str], room: str) -> str:
    found = sum(room_of(module) == room for module in reached if "." in module)
    return str(found) if found else ""


def _short(module: str) -> str:
    return module.removeprefix("labelstack.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
