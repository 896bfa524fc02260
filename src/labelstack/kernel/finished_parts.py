"""What each network says of each shard, kept in files, so that a kernel that was killed goes on from there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from labelstack.ensemble import record
from labelstack.ensemble.folder import Spec, network_file
from labelstack.ensemble.recompute import Answered, Members, shard_predictions, shard_work
from labelstack.images.shards.shard_files import shard_paths
from labelstack.kernel.contents import Contents
from labelstack.kernel.smaller import steps_of
from labelstack.kernel.time_budget import Net, predict_within
from labelstack.predictions import Predictions, read_predictions, write_part
from labelstack.support.errors import UserError
from labelstack.support.storage import sha256


class FinishedParts:
    """Predictions of the stored images by the networks of an ensemble, or of what is left of it.

    Parameters
    ----------
    contents : for the networks' digests
    ensemble : folder of its files
    images : folder of the shards
    work : folder of finished parts
    key : of all else that decides about predictions: source and packages
    """

    def __init__(self, contents: Contents, ensemble: Path, images: Path, work: Path, key: str) -> None:
        self._contents, self._ensemble, self._images, self._work, self._key = contents, ensemble, images, work, key
        self._shards = {shard: sha256(shard) for shard in shard_paths(images)}
        self._boxes = {name: record.read_boxes(ensemble, name) for name in _models(contents)}

    def predictions(self, spec: Spec) -> dict[str, Predictions]:
        """What every model that has a say predicts, by name."""
        members = Members.of(self._ensemble, spec)
        return {
            name: shard_predictions(
                members, spec, self._images, name, self._boxes[name], partial(self._taken, spec, name)
            )
            for name in spec.needed_models
        }

    def within(self, limit: float, specs: Sequence[Spec], clock: Callable[[], float]) -> int:
        """Predict for the largest of some ensembles, from all to least, that fits into ``limit`` seconds; its place."""
        shards, steps = list(self._shards), steps_of(specs)
        views = {(name, fold): len(specs[0].tta(specs[0].views[name][fold])) for name, fold in steps[0].networks}
        turn: dict[tuple[bool, Net], Callable[[Path], Callable[[], Answered]]] = {}  # one network at a time

        def kept(place: int, net: Net, number: int) -> bool:
            return self._file(specs[place], *net, shards[number]).exists()

        def run(place: int, net: Net, number: int) -> None:
            spec, mine = specs[place], (steps[place].first_view, net)
            if mine not in turn:
                turn.clear()
                turn[mine] = shard_work(Members.of(self._ensemble, spec), spec, *net, self._boxes[net[0]])
            self._taken(spec, *net, shards[number], turn[mine](shards[number]))

        return predict_within(limit, steps, views, len(shards), kept, run, clock)

    def _taken(self, spec: Spec, name: str, fold: str, shard: Path, predict: Callable[[], Answered]) -> Answered:
        file = self._file(spec, name, fold, shard)
        try:
            part = read_predictions(file)
        except UserError:
            image_id, probability = predict()
            write_part(file, image_id, probability)
            return image_id, probability
        return part.image_id, part.probability

    def _file(self, spec: Spec, name: str, fold: str, shard: Path) -> Path:
        view, settings = spec.views[name][fold], spec.settings
        seen = [
            spec.tta(view),
            view.image_size,
            view.resize,
            view.region,
            self._boxes[name],
            settings.batch_size,
            settings.combine,
        ]
        said = [self._key, self._contents.files[network_file(name, fold)].sha256, *seen, self._shards[shard]]
        digest = hashlib.sha256(" ".join(map(str, said)).encode()).hexdigest()[:16]
        return self._work / f"{name}-{fold}-{shard.stem}-{digest}.npz"


def _models(contents: Contents) -> list[str]:
    names = (file.split("/") for file in contents.files)
    return list(dict.fromkeys(parts[1] for parts in names if parts[0] == "members"))
