"""`labelstack recipe NAME --rehearse`: every stage of a recipe, on small data in a copy, in minutes."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from labelstack.commands.recipe import project_root, recipe_file
from labelstack.params import Params, load_params
from labelstack.params.dataset import IMET, INSTANCES
from labelstack.params.task import FASHIONAI
from labelstack.stages.common import done
from labelstack.support.errors import UserError
from labelstack.support.yaml_file import read_yaml

Url = Callable[[str], str]


def run(name: str, keep: Path | None = None) -> None:
    """Rehearse a recipe in a folder of its own; exits with 1, and keeps the folder, when a stage fails.

    Parameters
    ----------
    keep : Path, optional
        A new or empty folder to rehearse in, and to leave; otherwise a temporary one, removed on success.

    Raises
    ------
    UserError
        When there is no such recipe, it is not valid, or the folder is not free.
    """
    from labelstack.rehearsal import copy, data
    from labelstack.rehearsal.shrink import N_ATTRIBUTES, N_IMAGES, N_MASKED, PICTURE, SAMPLE, shrink

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything is put away
    project = project_root()
    file = recipe_file(project, name)
    params = load_params(file)
    form = params.dataset.format
    if form not in data.FORMATS:
        raise UserError(f"{name}: rehearsals draw data in the forms {' and '.join(data.FORMATS)}, not {form}")
    sizes = {split: n for split, n in N_IMAGES.items() if form != IMET or split != "validation"}
    sizes = {FASHIONAI: N_ATTRIBUTES, INSTANCES: N_MASKED}.get(form, sizes)
    small = shrink(read_yaml(file), params)
    of_second = f"{len(small.get('second_round', {}))} of {len(params.second_round)} of a second round, "
    second = of_second if params.second_round else ""
    with _folder(name, keep) as folder:
        _say(
            f"{name}: {len(small['models'])} of {len(params.models)} models, each by a small twin, "
            f"{len(small['stackers'])} of {len(params.stackers)} stackers, "
            f"{second}"
            f"{'/'.join(map(str, sizes.values()))} made-up images of {PICTURE} px → {folder}"
        )
        root = small["dataset"].get("root", params.dataset.root)
        with ExitStack() as stack:
            if root.rstrip("/") != SAMPLE and form == IMET:
                data.write_museum(folder / root)
            elif root.rstrip("/") != SAMPLE and form == FASHIONAI:
                data.write_attributes(folder / root)
            elif root.rstrip("/") != SAMPLE and form == INSTANCES:
                data.write_instances(folder / root)
            elif root.rstrip("/") != SAMPLE:  # that one the pipeline draws itself
                pictures, url = stack.enter_context(_reachable_pictures(folder, root, params, small))
                single = params.dataset.task == "single_label"
                data.write(name, folder / root, data.draw(pictures, params.dataset.label_ids, single=single), url)
                if params.dataset.validation:  # drawn from train
                    (folder / root / "validation.json").unlink()
            copy.copy_project(project, folder, small)
            outcome = copy.reproduce(folder, lambda stage: _say(f"stage {stage}"))
    if outcome.message:
        where = f"at stage {outcome.stages[-1]}" if outcome.stages else "before any stage"
        print(
            f"labelstack: the rehearsal of {name} failed {where}; {folder} is kept\n{outcome.message}", file=sys.stderr
        )
        sys.exit(1)
    if keep is None:
        shutil.rmtree(folder)
    done(
        "recipe",
        f"{name} rehearsed, {len(outcome.stages)} stages from {outcome.stages[0]} to {outcome.stages[-1]} in "
        f"{outcome.seconds:.0f} s",
        f"{folder}, removed" if keep is None else folder,
    )


@contextmanager
def _folder(name: str, keep: Path | None) -> Iterator[Path]:
    """The folder of the rehearsal; removed when an exception, such as Ctrl-C, ends it, unless it was asked for."""
    if keep is not None:
        yield _free(keep)
        return
    folder = Path(tempfile.mkdtemp(prefix=f"labelstack-rehearsal-{name}-")).resolve()
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _free(keep: Path) -> Path:
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--keep {keep}: can't be made ({error.strerror}); name a new folder") from None
    if any(keep.iterdir()):
        raise UserError(f"--keep {keep}: the folder is not empty; name a new one, nothing is overwritten")
    return keep.resolve()


@contextmanager
def _reachable_pictures(folder: Path, root: str, params: Params, small: dict[str, Any]) -> Iterator[tuple[Path, Url]]:
    """A folder for pictures, and what their URLs are: over HTTP where the recipe allows it, else files.

    The server's host joins ``images.allow_hosts`` of ``small``.
    """
    from labelstack.rehearsal.pictures import served

    schemes = params.images.allow_schemes
    if "file" in schemes and "http" not in schemes:
        yield folder / root / "images", lambda place: f"file:images/{place}"
        return
    pictures = folder / "data" / "pictures"
    with served(pictures) as host:
        images = small.setdefault("images", {})
        images["allow_hosts"] = [*params.images.allow_hosts, host]
        images["allow_schemes"] = list(dict.fromkeys([*schemes, "http"]))
        yield pictures, lambda place: f"http://{host}/{place}"


def _say(text: str) -> None:
    print(f"rehearsal: {text}", flush=True)
