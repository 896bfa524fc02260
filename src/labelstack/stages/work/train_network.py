"""One network: from shards to weights and history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelstack.images.loader import TrainingBatches, evaluation_batches
from labelstack.images.shards.verify import check_shards
from labelstack.params import Params
from labelstack.stages import paths
from labelstack.stages.choosing import asked_of
from labelstack.stages.members import Network
from labelstack.stages.rows import MoreRows, Rows, label_table
from labelstack.stages.trained import Trained
from labelstack.support.box import Boxes
from labelstack.support.storage import replacing

if TYPE_CHECKING:
    pass


def compute(
    params: Params,
    own: Network,
    rows: Rows,
    held_out: Rows,
    work: Path,
    on_epoch: Callable[[int, dict[str, float]], None],
    *,
    targets: NDArray[np.float32] | None = None,
    more: MoreRows | None = None,
    boxes: Boxes | None = None,
    start: Path | None = None,
) -> Trained:
    """Train a network; write its model.keras and history.csv.

    Parameters
    ----------
    rows, held_out : of train, learned from and kept for early stopping, of the label groups that the model knows
    work : folder of the checkpoints, from which a killed attempt goes on
    on_epoch : called after each epoch with its number and scores
    targets : float32 [n, n_labels], what is learned of the rows, NaN where a label is not known; None: their labels
    more : rows of test that are learned from besides
    boxes : the part of an image that is seen, by row id; None: all images whole
    start : weights to begin with; None: as the model's params say
    """
    from labelstack.networks.among_labels import among_labels
    from labelstack.networks.inference import save_model, weights_digest
    from labelstack.networks.soft_targets import known_targets
    from labelstack.networks.training import train

    model = params.network(own.model, own.fold)
    check_shards(paths.shards("train"), params.images.verify, f"train {own.name}")
    group, columns = None, np.ones(rows.Y.shape[1], np.bool_)
    if rows.known is not None:
        group = label_table()["group"].to_numpy(np.str_)
        told = _soft_targets(rows, model.soft_labels) if targets is None else targets
        targets = known_targets(told, rows.known, group)
        if model.groups:
            columns = np.isin(group, model.groups)
            targets, all_groups, group = targets[:, columns], len(np.unique(group)), group[columns]
    Y = rows.Y[:, columns]
    holdout = asked = None
    if len(held_out):
        size, shards = model.image_size, paths.shards("train")
        batches = evaluation_batches(shards, held_out.image_id, size, 256, model.resize, boxes, model.region_view)
        holdout = (np.concatenate([images for _, images in batches]), held_out.Y[:, columns])
        asked = asked_of(held_out, label_table())
        if asked is not None and model.groups:
            asked = asked.of_labels(columns)
    taught, seen = Y.astype(np.float32) if targets is None else targets, rows.image_id
    shards_of = [(paths.shards("train"), len(seen))]
    if more is not None and len(more.row_id):
        check_shards(paths.shards("test"), params.images.verify, f"train {own.name}")
        shards_of.append((paths.shards("test"), len(more.row_id)))
        seen = np.concatenate([seen, more.row_id])
        taught = np.concatenate([taught, more.targets[:, columns]])
    with TrainingBatches(
        shards_of,
        seen,
        taught,
        size=model.image_size,
        batch_size=model.batch_size,
        seed=params.seed + model.seed,
        augment=params.policy(model),
        resize=model.resize,
        workers=params.training.workers,
        shuffle_shards=params.training.shuffle_shards,
        boxes=boxes,
        view=model.region_view,
    ) as train_batches:
        result = train(
            model,
            params.training,
            train_batches,
            holdout,
            n_labels=Y.shape[1],
            prior=Y.mean(0, dtype=np.float32),
            seed=params.seed + model.seed,
            work=work,
            task=params.dataset.task,
            metric=params.metric,
            on_epoch=on_epoch,
            start=start,
            masked=targets is not None and bool(np.isnan(targets).any()),
            groups=None if group is None else group.tolist(),
            held_out=asked,
        )
    network = result.model
    if model.groups:
        share = len(model.groups) / all_groups
        network = among_labels(network, np.flatnonzero(columns).tolist(), len(columns), share)
    save_model(network, own.weights)
    with replacing(own.history) as temporary:
        result.history.to_csv(temporary, index=False)
    return Trained(result.history, result.best_epoch, weights_digest(result.model))


def _soft_targets(rows: Rows, said: str | Mapping[str, str]) -> NDArray[np.float32]:
    """Targets float32 [n, n_labels] by ``soft_labels``: one table for all rows, or one for each label group named."""
    from labelstack.networks.soft_targets import soft_targets

    targets = rows.Y.astype(np.float32)
    assert rows.known is not None
    assert rows.maybe is not None
    tables = dict.fromkeys(np.unique(rows.known).tolist(), said) if isinstance(said, str) else said
    for name, table in tables.items():
        mine = rows.known == name
        targets[mine] = soft_targets(rows.Y[mine], rows.maybe[mine], table)
    return targets
