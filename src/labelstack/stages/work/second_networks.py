"""The networks of a second-round model, one after another; a finished one outlives a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from labelstack.images.heat_table import write_heat
from labelstack.images.view_table import read_view, write_view
from labelstack.params import Params
from labelstack.predictions import answered, read_predictions
from labelstack.stages import paths
from labelstack.stages.fold_files import read_asked
from labelstack.stages.members import Network
from labelstack.stages.rows import Rows
from labelstack.stages.second_kinds.kind import kind_of
from labelstack.stages.trained import Trained
from labelstack.stages.work import predict_network, train_network
from labelstack.support import storage
from labelstack.support.box import Boxes
from labelstack.support.sealed import is_sealed, seal

_FINISHED = "finished"  # folder of a network that needs nothing more


def find_boxes(params: Params, name: str, kept: Path) -> dict[str, Boxes]:
    """By split, the part of each image that a second-round model sees.

    Where its kind finds them by networks, they are written beside what it predicts, with maps of where these look;
    ``kept`` is where the boxes outlive a kill, and the maps beside them.
    """
    target = paths.found_boxes(name)
    maps = kept.with_name(paths.found_heat(name).name)
    if not kept.exists():
        found = kind_of(params, params.second_round[name]).seen()
        if found is None:
            for of_other_params in (target, paths.found_heat(name)):
                of_other_params.unlink(missing_ok=True)
            return {split: read_view(paths.view(name), split) for split in paths.SPLITS}
        write_heat(maps, found.heat)
        write_view(kept, found.boxes)
    for source, place in ((maps, paths.found_heat(name)), (kept, target)):
        with storage.replacing(place) as temporary:
            shutil.copyfile(source, temporary)
    return {split: read_view(target, split) for split in paths.SPLITS}


def learn(
    params: Params,
    own: Network,
    rows: Rows,
    held_out: Rows,
    boxes: Mapping[str, Boxes],
    work: Path,
    on_epoch: Callable[[int, dict[str, float]], None],
) -> Trained:
    """Train a network, from the weights and for the targets of its kind; arguments as of ``train_network.compute``."""
    kind = kind_of(params, params.second_round[own.model])
    if (made := kind.made(own, rows)) is not None:
        return made
    return train_network.compute(
        params,
        own,
        rows,
        held_out,
        work,
        on_epoch,
        targets=kind.targets(rows),
        more=kind.more(rows),
        boxes=boxes["train"],
        start=kind.start(own.fold),
    )


def numbers(params: Params, name: str, rows: Rows) -> dict[str, float]:
    """What is worth knowing of what a network is taught."""
    return kind_of(params, params.second_round[name]).numbers(rows)


def keep(own: Network, work: Path) -> None:
    """Keep a finished network in its work folder: DVC clears a stage's outputs before it runs it again."""
    with storage.replacing_dir(work / _FINISHED) as folder:
        for file in (own.weights, own.history, own.run_file):
            shutil.copyfile(file, folder / file.name)
        seal(folder)
    for checkpoint in work.glob("*.npz"):
        checkpoint.unlink()


def restored(own: Network, work: Path) -> bool:
    """Put a network that ``keep`` kept into its place; false where there is none."""
    kept = [work / _FINISHED / file.name for file in (own.weights, own.history, own.run_file)]
    if not is_sealed(work / _FINISHED):  # none, damaged, or a kill while the work folder was cleared
        return False
    with storage.replacing_dir(own.folder) as folder:
        for file in kept:
            shutil.copyfile(file, folder / file.name)
    return True


def predict(params: Params, own: Network, boxes: Mapping[str, Boxes], code: str, work: Path) -> None:
    """Write what a network predicts; finished shards are kept in ``work``."""
    predict_network.compute(params, own, code, boxes=boxes, kept=work / "predicted")


def seen_whole(own: Sequence[Network], boxes: Mapping[str, Boxes], groups: Sequence[str] = ()) -> tuple[int, int]:
    """How many of the images that networks of these label groups predict together have no box; how many there are."""
    asked = [read_asked(network.fold) for network in own]
    test = read_predictions(own[0].predictions / "test.npy")
    ids = {"test": [test.image_id[answered(test.probability)]]}
    for part in (part for one in asked for part in one.parts):
        ids.setdefault(part.split, []).append(part.of_groups(groups))
    unique = {split: np.unique(np.concatenate(rows)) for split, rows in ids.items()}
    cut = sum(int(np.isin(rows, np.array(list(boxes[split]), np.int64)).sum()) for split, rows in unique.items())
    total = sum(map(len, unique.values()))
    return total - cut, total
