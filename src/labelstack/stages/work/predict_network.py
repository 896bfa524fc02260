"""One network's predictions: rows that it did not learn from, the audit rows and the test split, shard by shard."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.compute.engine import Engine, Job
from labelstack.compute.worker import package_versions
from labelstack.images.loader import shown_batches
from labelstack.images.pixels.tta import Looks
from labelstack.images.shards.shard_files import ok_ids, shard_paths
from labelstack.images.shards.verify import check_shards
from labelstack.params import Params, digest
from labelstack.params.prediction_views import Combine, one_view
from labelstack.params.region_view import RegionView
from labelstack.predictions import Predictions, read_predictions, write_part, write_predictions
from labelstack.stages import paths
from labelstack.stages.fold_files import Asked, read_asked
from labelstack.stages.members import Network
from labelstack.stages.rows import Split, label_table
from labelstack.support import storage
from labelstack.support.box import Box, Boxes
from labelstack.support.errors import UserError

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Predicted:
    """How many images were predicted: rows for the stacking, audit rows, and int64 [m] ids of the test images."""

    oof: int
    audit: int
    test_id: Ids


def compute(
    params: Params,
    own: Network,
    code: str,
    *,
    boxes: Mapping[str, Boxes] | None = None,
    kept: Path | None = None,
) -> Predicted:
    """Write what a network predicts: oof.npy and test.npy, and audit.npy where there are such rows.

    Parameters
    ----------
    code : the stage's digest: parts that other code left unfinished are not taken
    boxes : by split, the part of an image that is seen; None: all images whole
    kept : folder of parts that stay when all is written; None: one of this network's own, which goes then

    Raises
    ------
    UserError
        When the network is not trained or a split not downloaded; every such lack is named.
    """
    asked, groups = read_asked(own.fold), params.groups_of(own.model)
    splits: list[Split] = [*dict.fromkeys(part.split for part in asked.parts), "test"]
    _check_inputs(own, splits)
    for split in splits:
        check_shards(paths.shards(split), params.images.verify, f"predict {own.name}")
    work, seen = kept or paths.WORK / "predict" / f"{own.model}-{own.fold}", boxes or {}
    jobs = {
        split: _jobs(params, own, split, _wanted(asked, split, groups), code, seen.get(split), work) for split in splits
    }
    todo = [job for part in jobs.values() for job in part if not _finished(job)]
    with Engine(params.engine) as engine:
        for _ in engine.map(
            predict_shard, todo, desc=f"predict {own.name}", reads=_reads, writes=lambda job: [job["out"]]
        ):
            pass
    all_of_test = ok_ids(paths.shards("test")) if groups else None
    test_id = _join(params, own, "test", jobs["test"], None, all_of_test)
    oof = _join(params, own, "oof", jobs[asked.oof.split], asked.oof.row_id, asked.oof.row_id if groups else None)
    audit = 0
    if (rows := asked.audit) is not None:
        audit = len(_join(params, own, "audit", jobs[rows.split], rows.row_id, rows.row_id if groups else None))
    else:
        (own.predictions / "audit.npy").unlink(missing_ok=True)  # of other params
    if kept is None:
        shutil.rmtree(work, ignore_errors=True)
    return Predicted(len(oof), audit, test_id)


def _finished(job: Job) -> bool:
    """Whether a part lies in the work folder and is whole: the archive's checksums are those of its bytes."""
    try:
        read_predictions(job["out"])
    except UserError:
        return False
    return True


def predict_shard(job: Job) -> int:
    """Predict images of one shard; the number of images.

    Batches end with the shard, so the same images share a batch wherever it is predicted.
    """
    network, forward = _network(job["model"], job["model_sha256"], job["combine"])
    from labelstack.networks.inference import predict

    wanted = None if job["wanted"] is None else np.array(job["wanted"], np.int64)
    boxes = None if job["boxes"] is None else {int(row): Box(*sides) for row, sides in job["boxes"].items()}
    views, most = tuple(map(one_view, job["tta"])), job["batch_size"]
    looks = Looks(views, job["size"], job["resize"], RegionView(*job["region"]))
    batches = shown_batches(Path(job["shard"]), wanted, looks, most, boxes)
    image_id, probability = predict(
        network, batches, looks.transforms, forward=forward, combine=job["combine"], most=most
    )
    write_part(job["out"], image_id, probability)
    return len(image_id)


@lru_cache(maxsize=1)
def _network(path: str, sha256: str, combine: Combine) -> tuple[Any, Any]:
    """A network and its traced function, kept from task to task."""
    from labelstack.networks.determinism import deterministic_operations
    from labelstack.networks.inference import compile_predict, load_model

    deterministic_operations()
    network = load_model(path)
    return network, compile_predict(network, combine)


def _check_inputs(own: Network, splits: list[Split]) -> None:
    lacking = [
        f"{paths.shards(split)}: no shards. Run `dvc repro` (or `labelstack stage download {split}`) first."
        for split in splits
        if not shard_paths(paths.shards(split))
    ]
    if not own.weights.exists():
        typed = f"labelstack stage train {own.model} {own.fold}"
        lacking.append(f"{own.weights}: not found. Run `dvc repro` (or `{typed}`) first.")
    if lacking:
        raise UserError("\n".join(lacking))


def _wanted(asked: Asked, split: Split, groups: list[str]) -> Ids | None:
    """Ids of the images to predict; None: all that are there. Of some label groups those that know one of them."""
    parts = [part for part in asked.parts if part.split == split]
    if groups and split == "test":
        parts += [] if asked.test is None else [asked.test]
    wanted = [part.of_groups(groups) for part in parts]
    if not wanted:
        return None
    ids = np.unique(np.concatenate(wanted))
    return None if np.array_equal(ids, np.sort(ok_ids(paths.shards(split)))) else ids


def _jobs(
    params: Params, own: Network, split: Split, wanted: Ids | None, code: str, boxes: Boxes | None, work: Path
) -> list[Job]:
    """A job for each shard with such images; its file is named by all that decides, so a finished one is kept."""
    model = params.network(own.model, own.fold)
    settings = {
        "model": str(own.weights),
        "model_sha256": storage.sha256(own.weights),
        "size": model.image_size,
        "resize": model.resize,
        "region": list(model.region_view),
        "batch_size": params.prediction.batch_size,
        "tta": [view.as_json() for view in params.views_of(own.model, own.fold).values()],
        "combine": params.prediction.combine,
    }
    jobs = []
    for shard in shard_paths(paths.shards(split)):
        here = None if wanted is None else np.intersect1d(wanted, ok_ids(shard)).tolist()
        if here == []:
            continue
        of_shard = None if boxes is None else {str(i): list(boxes[i]) for i in ok_ids(shard).tolist() if i in boxes}
        groups = bool(params.groups_of(own.model))
        key = digest([package_versions(), code, settings, storage.sha256(shard), here, of_shard])
        out = work / f"{split}-{shard.stem}-{key}.npz"
        jobs.append(
            {**settings, "shard": str(shard), "wanted": here, "boxes": of_shard, "groups": groups, "out": str(out)}
        )
    return jobs


def _join(params: Params, own: Network, name: str, jobs: list[Job], chosen: Ids | None, whole: Ids | None) -> Ids:
    """Write one file of what some jobs predicted, of the chosen ids or of all; its ids, int64 [n].

    ``whole`` are ids of rows that the file has all of, NaN where the network was not shown one; None: it was shown all.
    """
    parts = [read_predictions(job["out"]) for job in jobs]
    if not parts and whole is not None:  # no row knows what it knows
        parts = [Predictions(np.zeros(0, np.int64), np.zeros((0, len(label_table())), np.float32))]
    there = [slice(None) if chosen is None else np.isin(part.image_id, chosen) for part in parts]
    image_id = np.concatenate([part.image_id[rows] for part, rows in zip(parts, there, strict=True)])
    probability = np.concatenate([part.probability[rows] for part, rows in zip(parts, there, strict=True)])
    if whole is not None:
        spread = np.full((len(whole), probability.shape[1]), np.nan, np.float32)
        order = np.argsort(whole)
        spread[order[np.searchsorted(whole, image_id, sorter=order)]] = probability
        image_id, probability = whole, spread
    file, dtype = own.predictions / f"{name}.npy", params.prediction.dtype
    write_predictions(file, image_id, probability, dtype=dtype, unknown=whole is not None)
    return image_id


def _reads(job: Job) -> list[str]:
    return [job["model"], job["shard"]]
