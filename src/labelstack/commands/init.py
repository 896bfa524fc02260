"""`labelstack init`: a params.yaml for a folder of images, from what lies in it and what the machine has."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labelstack.commands import init_params
from labelstack.commands.init_params import DataSize, Machine
from labelstack.commands.init_table import TableLook, look
from labelstack.support.cores import cores
from labelstack.support.errors import InputProblems, UserError

_FIRST_LINE = "# The embedded default:"
_TABLES = (".csv", ".tsv", ".parquet")
_SEEN = 50  # images whose size is looked at


def run(images: Path, labels: Path | None, to: Path, *, force: bool = False) -> None:
    """Look at images and labels, write params.yaml, and say what was found and what to type next.

    Parameters
    ----------
    images : folder of the images
    labels : CSV or parquet file; None: images lie in a folder for each class
    to : folder of dvc.yaml
    force : replace a params.yaml that somebody changed; it is kept beside the new one in any case

    Raises
    ------
    UserError
        With everything that is wrong with folder and file at once; nothing is written then.
    """
    from labelstack.formats.format import CompetitionData, format_for
    from labelstack.params.dataset import ROWS, DatasetSection
    from labelstack.params.folds import FoldsSection
    from labelstack.stages.ingest import drawing

    to, target = to.resolve(), to.resolve() / "params.yaml"
    problems = _arguments(images, labels, to)
    problems += _unchanged(target, force)
    if problems:
        raise InputProblems("labelstack init", problems)
    root, shown = _root(images, labels, to)
    below = os.path.relpath(images.resolve(), root)
    folder = None if below == "." else Path(below).as_posix()
    table = {"file": None} | ({"images": folder} if folder else {})
    found = TableLook(table, "single_label", ["a folder for each class"])
    if labels is not None:
        looked = look(root, Path(os.path.relpath(labels.resolve(), root)).as_posix(), folder, problems)
        if looked is None:
            raise InputProblems(str(labels), problems)
        found = looked
        found.table |= _beside(labels, root)
    dataset: dict[str, Any] = {"format": "table", "root": shown, "into": ROWS, "task": found.task, "table": found.table}

    folds = {"group_by": found.group_by} if found.group_by else {}

    def read() -> CompetitionData:
        section, together = DatasetSection.model_validate(dataset), FoldsSection.model_validate(folds)
        draw = drawing(init_params.SEED, together)
        return format_for(section, draw, together).read(root, None, init_params.folds(0))

    dataset["table"] = found.table | init_params.shares(sum(read().counts["images"].values()))
    data = read()
    sizes = data.counts["images"]
    size = DataSize(sizes["train"], len(data.labels), _side(root, data.manifests["train"]["url"]))
    machine = this_machine()
    content = init_params.content(init_params.plain_name(root.name), dataset, size, sizes["validation"], machine)
    content["folds"] |= _whole_groups(data, content["folds"]["k"], found.group_by)
    kept = _write(content, target)
    told = {
        "data": f"{sum(sizes.values()):,} images in {shown}, {len(data.labels):,} labels",
        "table": "; ".join(found.told),
        "task": f"{found.task}: {_per_image(data)}",
        "splits": ", ".join(f"{sizes[name]:,} {name}{_drawn(name, data.counts['drawn'])}" for name in sizes),
        "machine": f"{machine.cores} cores, {machine.memory_gb:.0f} GB of memory, {machine.gpu or 'no GPU'}",
        "models": ", ".join(f"{name} ({model['backbone']})" for name, model in content["models"].items()),
        "training": _training(content["models"], size, machine),
        "kept": f"the params.yaml of before, as {kept}" if kept else "",
        "wrote": os.path.relpath(target),
        "next": "labelstack check; dvc repro",
    }
    for heading, text in told.items():
        if text:
            print(f"{heading:<8} {text}")


def this_machine() -> Machine:
    """Cores, memory and the first GPU of the machine; TensorFlow is not asked, which takes it seconds."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    gpu = None
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
            gpu = done.stdout.strip().partition("\n")[0] if done.returncode == 0 else None
        except (OSError, subprocess.TimeoutExpired):
            gpu = None
    return Machine(cores(), memory, gpu or None)


def _arguments(images: Path, labels: Path | None, to: Path) -> list[str]:
    problems = []
    if not images.is_dir():
        what = "is a file" if images.exists() else "there is no such folder"
        problems.append(f"--images {images}: expected a folder of images, {what}")
    if labels is not None and not labels.is_file():
        what = "is a folder" if labels.exists() else "there is no such file"
        problems.append(f"--labels {labels}: expected a CSV or parquet file, {what}")
    if not to.is_dir():
        problems.append(f"--to {to}: expected the folder of dvc.yaml, there is no such folder")
    if labels is None and images.is_dir():
        tables = sorted(file for file in images.iterdir() if file.suffix.lower() in _TABLES)
        if tables:
            problems.append(f"--images {images}: holds {tables[0].name}: are the labels in it? --labels {tables[0]}")
    return problems


def _unchanged(target: Path, force: bool) -> Iterable[str]:
    """A problem where somebody's own params.yaml would be replaced: not the shipped one, as git has it."""
    if force or not target.exists():
        return
    shipped = target.read_text(encoding="utf-8", errors="replace").startswith(_FIRST_LINE)
    command = ["git", "diff", "--quiet", "HEAD", "--", target.name]
    if shipped and shutil.which("git"):
        done = subprocess.run(command, cwd=target.parent, capture_output=True, check=False)
        shipped = done.returncode != 1  # 1: git has another one; more: there is no git to ask
    if not shipped:
        yield f"{target}: was changed from the one that came with the project: --force replaces it and keeps a copy"


def _root(images: Path, labels: Path | None, to: Path) -> tuple[Path, str]:
    """The folder that holds images and labels, and how params.yaml names it; DVC watches all of it."""
    held = [images.resolve()] if labels is None else [images.resolve(), labels.resolve().parent]
    root, project = Path(os.path.commonpath(held)), to.resolve()
    if root in (*project.parents, project, Path.home(), Path(root.anchor)):
        what = "images" if labels is None else "images and labels"
        named = str(images) if labels is None else f"{images} {labels}"
        raise UserError(
            f"{root}: is the folder that holds {what}, and more than these: DVC would watch all of it. Move them into "
            f"a folder of their own, for example: mkdir -p data/mine && mv {named} data/mine/"
        )
    inside = root.is_relative_to(project)
    return root, root.relative_to(project).as_posix() if inside else str(root)


def _beside(labels: Path, root: Path) -> dict[str, Any]:
    """Tables of the other splits, where the one that was named is called train."""
    if labels.stem.lower() != "train":
        return {}
    found: dict[str, Any] = {}
    for key, stems in (("validation_file", ("validation", "valid", "val")), ("test_file", ("test",))):
        files = [labels.resolve().parent / f"{stem}{labels.suffix}" for stem in stems]
        if there := [file for file in files if file.is_file()]:
            found[key] = there[0].relative_to(root).as_posix()
    return found


def _side(root: Path, urls: Iterable[list[str]]) -> int:
    """The usual short side of the first images, in pixels; 256 where none can be looked at."""
    from urllib.parse import unquote_to_bytes

    from PIL import Image

    sides: list[int] = []
    for row in urls:
        if len(sides) == _SEEN:
            break
        if row[0].startswith("file:"):
            try:
                with Image.open(root / os.fsdecode(unquote_to_bytes(row[0][5:]))) as image:
                    sides.append(min(image.size))
            except (OSError, ValueError):  # the download says what is wrong with it
                continue
    return sorted(sides)[len(sides) // 2] if sides else 256


def _per_image(data: Any) -> str:
    counts = data.manifests["train"]["label_id"].map(len)
    if counts.min() == counts.max():
        return f"{counts.min()} on every image"
    return f"{counts.min()} … {counts.max()} on an image, {counts.mean():.1f} in the mean"


def _whole_groups(data: Any, k: int, column: str | None) -> dict[str, Any]:
    """What ``folds`` says of a column of groups: no more folds than validation has of them."""
    if column is None:
        return {}
    different = len(set(data.columns["validation"][column]) - {""}) or k
    return {"k": max(2, min(k, different)), "group_by": column}


def _drawn(split: str, drawn: list[str]) -> str:
    return " (drawn)" if split in drawn else ""


def _training(models: dict[str, Any], size: DataSize, machine: Machine) -> str:
    epochs = max(model["epochs"] for model in models.values())
    if machine.gpu:
        return f'{epochs} epochs; the weights of ImageNet are fetched; needs pip install -e ".[gpu]"'
    minutes = init_params.cost_s(models, size.images) / 60
    long = f"about {round(minutes):,} minutes" if minutes >= 1.5 else "about a minute"
    return f"{epochs} epochs from scratch, {long} of processor time"


def _write(content: dict[str, Any], target: Path) -> str | None:
    """Write params.yaml when labelstack and DVC have nothing against it; the name of the copy of what stood there."""
    import yaml

    from labelstack.commands.check import checked
    from labelstack.support.storage import replacing

    plain = json.loads(json.dumps(content))  # what stands in it twice is written twice
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    head = "# Written by `labelstack init`. Every key with unit and range: docs/params.md.\n"
    kept = None
    with replacing(target) as temporary:
        temporary.write_text(head + text, encoding="utf-8")
        try:
            with contextlib.chdir(target.parent):  # where dvc.yaml is
                checked(temporary.absolute())
        except InputProblems as error:
            raise InputProblems("params.yaml, as it was to be written", error.problems) from None
        if target.exists() and target.read_bytes() != temporary.read_bytes():
            places = (f"params.yaml.bak{number or ''}" for number in range(1000))
            kept = next(place for place in places if not (target.parent / place).exists())
            shutil.copy2(target, target.parent / kept)
    return kept
