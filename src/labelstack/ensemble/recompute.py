"""The members of a registered ensemble, each predicting as the pipeline's stages do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstack.ensemble.folder import ONLY, EnsembleSettings, Spec, View, network_file
from labelstack.ensemble.record import ProbeImages
from labelstack.predictions import Predictions, assemble_cube
from labelstack.stacking.mixing import Mix, mix_from
from labelstack.stacking.stackers.averaging import mean_of
from labelstack.support.box import Boxes
from labelstack.support.errors import UserError
from labelstack.support.logits import as_kept
from labelstack.support.progress import bar

if TYPE_CHECKING:
    from labelstack.images.pixels.tta import Looks

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Images = NDArray[np.uint8]
Batches = Iterable[tuple[Ids, Images]]
Answered = tuple[Ids, Floats]
Kept = Callable[[str, Path, Callable[[], Answered]], Answered]


@dataclass(frozen=True)
class Members:
    """How members are loaded: each when it is its turn, so that one of them is in memory at a time.

    Attributes
    ----------
    network : base model, fold → a function of batches (ids, uint8 [b, size, size, 3]) → ids, float32 [n, n_labels]
    stacker : name → a function of a cube float32 [n, n_models, n_labels] → float32 [n, n_labels]
    decode : a stored JPEG, view, image id → uint8 [size, size, 3], or [views, size, size, 3], see ``tta.Looks``
    """

    network: Callable[[str, str], Callable[[Batches], tuple[Ids, Floats]]]
    stacker: Callable[[str], Callable[[Floats], Floats]]
    decode: Callable[[bytes, View, int], Images]

    @classmethod
    def of(cls, folder: Path, spec: Spec) -> Members:
        """The members in an ensemble's folder."""
        from labelstack.stacking.stackers.construction import load_fold_ensemble

        return cls(
            network=lambda name, fold: _network(
                folder / network_file(name, fold), looks_of(spec, spec.views[name][fold]), spec.settings
            ),
            stacker=lambda name: load_fold_ensemble(folder / "stackers" / name).predict_proba,
            decode=lambda jpeg, view, image_id: looks_of(spec, view)(jpeg, image_id, view.box),
        )


def looks_of(spec: Spec, view: View) -> Looks:
    """What becomes of an image for a network that sees it so."""
    from labelstack.images.pixels.tta import Looks

    return Looks(spec.tta(view), view.image_size, view.resize, view.region)


def probe_predictions(
    members: Members, spec: Spec, probe: ProbeImages, name: str, boxes: Boxes | None = None
) -> Floats:
    """What a model says of the probe images, in the batches in which the pipeline predicted them.

    ``boxes`` are the parts of images that a second-round model saw, by id.
    """

    def batches(view: View) -> Iterator[tuple[Ids, Images]]:
        for number in np.unique(probe.batch):
            batch = np.flatnonzero(probe.batch == number)
            for group in looks_of(spec, view).groups(len(batch), spec.settings.batch_size):
                rows = batch[group]
                ids = probe.image_id[rows].tolist()
                views = [replace(view, box=(boxes or {}).get(i)) for i in ids]
                jpegs = [probe.jpeg[row] for row in rows.tolist()]
                shown = [members.decode(*seen) for seen in zip(jpegs, views, ids, strict=True)]
                yield probe.image_id[rows], np.stack(shown)

    return mean(spec, [members.network(name, fold)(batches(view))[1] for fold, view in spec.views[name].items()])


def shard_predictions(
    members: Members,
    spec: Spec,
    folder: Path,
    name: str,
    boxes: Boxes | None = None,
    kept: Kept | None = None,
    shown: NDArray[np.bool_] | None = None,
) -> Predictions:
    """What a model says of all images in a folder of shards, cut to their ``boxes``; batches end with the shard.

    Parameters
    ----------
    shown : bool [n], which of the images, in the shards' order, it is shown: those of label groups that it knows. The
        others get NaN; None: all
    kept : takes a network's fold, a shard and the work that predicts it, and gives what that gives, of before or anew;
        None: all is predicted. A network is loaded when the first work is done.

    Raises
    ------
    UserError
        When there is no shard, or one is not complete.
    """
    from labelstack.images.shards.shard_files import ok_ids, shard_paths

    shards = shard_paths(folder)
    if not shards:
        raise UserError(f"{folder}: no shards (shard-00000.parquet …) there; `dvc pull data/images/test` fetches them")
    image_id, networks = np.zeros(0, np.int64), []
    every = None if shown is None else ok_ids(folder)
    wanted = None if every is None else every[shown]
    for fold in spec.views[name]:
        predict = shard_work(members, spec, name, fold, boxes, wanted)
        bars = bar(shards, desc=f"predict {name}" + ("" if fold == ONLY else f"-{fold}"), unit="shard")
        parts = [predict(shard)() if kept is None else kept(fold, shard, predict(shard)) for shard in bars]
        image_id = np.concatenate([ids for ids, _ in parts])
        networks.append(np.concatenate([rows for _, rows in parts]))
    found = mean(spec, networks)
    if every is None:
        return Predictions(image_id, found)
    whole = np.full((len(every), found.shape[1]), np.nan, np.float32)
    whole[shown] = found
    return Predictions(every, whole)


def shard_work(
    members: Members, spec: Spec, name: str, fold: str, boxes: Boxes | None, wanted: Ids | None = None
) -> Callable[[Path], Callable[[], Answered]]:
    """A function of shards: the work that predicts one with a network, which is loaded when the first is done."""
    from labelstack.images.loader import shown_batches

    looks, network = looks_of(spec, spec.views[name][fold]), cache(lambda: members.network(name, fold))

    def work(shard: Path) -> Answered:
        return network()(shown_batches(shard, wanted, looks, spec.settings.batch_size, boxes))

    return lambda shard: partial(work, shard)


def test_cube(spec: Spec, base: Mapping[str, Predictions]) -> tuple[Ids, Floats]:
    """Ids and cube of the base models' test predictions, as the stage `stack` puts them together."""
    image_id = base[spec.cube[0]].image_id
    return image_id, assemble_cube({name: base[name] for name in spec.cube}, image_id)


def ensemble_predictions(members: Members, spec: Spec, base: Mapping[str, Predictions]) -> Predictions:
    """Blended probabilities of test images, from the predictions of the base models that are needed."""
    image_id = base[spec.needed_models[0]].image_id
    answers: dict[str, Floats] = {name: base[name].rows_of(image_id) for name in spec.needed_models}
    if spec.needed_stackers:
        _, cube = test_cube(spec, base)
        for name in bar(spec.needed_stackers, desc="stackers", unit="stacker"):
            answers[name] = as_kept(members.stacker(name)(cube), spec.settings.dtype)
    return Predictions(image_id, blended(spec, answers))


def blended(spec: Spec, members: Mapping[str, Floats]) -> Floats:
    """The blend of base models and stackers, in the order in which the stage `blend` adds them up."""
    return as_kept(mix_of(spec)({name: members[name] for name in spec.blended}), spec.settings.dtype)


def mean(spec: Spec, networks: Sequence[Floats]) -> Floats:
    """What a model says by what its networks say, all kept as the files of the stages keep it."""
    dtype = spec.settings.dtype
    return as_kept(mean_of([as_kept(one, dtype) for one in networks]), dtype)


def mix_of(spec: Spec) -> Mix:
    """The blend of an ensemble, a function of its members' probabilities by name."""
    return mix_from({"weights": spec.blended, "groups": spec.groups}, exclusive=spec.settings.exclusive)


def _network(file: Path, looks: Looks, settings: EnsembleSettings) -> Callable[[Batches], tuple[Ids, Floats]]:
    from labelstack.networks.determinism import deterministic_operations
    from labelstack.networks.inference import compile_predict, load_model, predict

    deterministic_operations()
    network = load_model(file)
    combine, most = settings.combine, settings.batch_size
    forward = compile_predict(network, combine)
    return lambda batches: predict(network, batches, looks.transforms, forward=forward, combine=combine, most=most)
