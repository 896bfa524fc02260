"""Training of a base model: epochs that survive a kill and end with the same weights as if there had been none."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from labelstack.networks.checkpoint import Checkpoint, CheckpointFolder, Record
from labelstack.networks.determinism import make_deterministic
from labelstack.networks.feeding import EpochBatches, ahead, mixed_up
from labelstack.networks.hard_examples import hardest
from labelstack.networks.inference import compile_predict
from labelstack.networks.learner import Learner, make_optimizer
from labelstack.networks.model import build_model
from labelstack.networks.schedules import best_epoch, learning_rate, stopped
from labelstack.networks.start import begin_with
from labelstack.networks.tasks import TASKS, Task
from labelstack.params import digest
from labelstack.params.metric import MetricSection
from labelstack.params.models import ModelSection
from labelstack.params.training import TrainingSection
from labelstack.scoring.metric import holdout_column, metric_of
from labelstack.support.errors import UserError
from labelstack.support.progress import bar
from labelstack.support.storage import sha256

Holdout = tuple[NDArray[np.uint8] | Callable[[], Iterable[NDArray[np.uint8]]], NDArray[Any]]
OnEpoch = Callable[[int, dict[str, float]], None]

_log = logging.getLogger(__name__)
_AGAIN = "again"  # in a checkpoint: rows that the next epoch has twice


@dataclass(frozen=True)
class TrainResult:
    """What training gives.

    Attributes
    ----------
    model : keras.Model
        With the weights of the best epoch on the holdout, or of the last one without a holdout; moving averages if on.
    history : DataFrame
        A row per epoch: epoch (from 1), loss, learning_rate (of the first step), seconds; with a holdout also
        holdout_loss (cross-entropy), holdout_<key> (the metric; of label sets at the best single threshold) and, of
        such a metric, holdout_threshold.
    best_epoch : int
        From 1; 0 when there was no epoch.
    """

    model: keras.Model
    history: pd.DataFrame
    best_epoch: int


def train(
    params: ModelSection,
    training: TrainingSection,
    batches: EpochBatches,
    holdout: Holdout | None,
    *,
    n_labels: int,
    prior: NDArray[np.floating[Any]] | None,
    seed: int,
    work: Path,
    task: str = "multi_label",
    metric: MetricSection | None = None,
    on_epoch: OnEpoch | None = None,
    start: Path | None = None,
    masked: bool = False,
) -> TrainResult:
    """Train a base model, or go on from the last finished epoch found in ``work``.

    Parameters
    ----------
    params, training : ModelSection, TrainingSection
        ``batch_size`` is that of ``batches``; under multi_gpu it is divided among the GPUs.
    batches : EpochBatches
        Such as ``images.loader.TrainingBatches``.
    holdout : (images, targets) or None
        Images uint8 [n, S, S, 3], or a function that gives batches of them for each pass (when they do not fit into
        memory); targets 0/1 [n, n_labels]. Decides early stopping, plateaus and the best epoch.
    n_labels : int
    prior : float [n_labels] or None
        Label frequencies of the training images: first bias, and what losses weigh by.
    seed : int
        With params, data and machine it fixes the result, interrupted or not.
    work : Path
        Folder for checkpoints. Those of a training with other params, metric, seed or shape of data are passed over.
    task : str
        ``dataset.task``.
    metric : MetricSection, optional
        What is measured on the holdout; default: samples F1.
    on_epoch : callable (epoch from 1, record), optional
        Called after each epoch's checkpoint is on disk; not again for epochs found in ``work``.
    start : Path, optional
        A ``.keras`` file of the same layers whose weights are begun with.
    masked : bool
        Whether targets of ``batches`` may be NaN: labels that are not known and count nothing.

    Raises
    ------
    UserError
        Options or weights that do not fit, or a loss that is no longer finite.
    """
    metric = metric or MetricSection()
    make_deterministic(seed)
    strategy = tf.distribute.MirroredStrategy() if training.multi_gpu else None
    asked = TASKS[task](params, n_labels, prior)
    with strategy.scope() if strategy else nullcontext():
        model = build_model(params, asked, mixed_precision=training.mixed_precision)
        if start is not None:
            begin_with(model, start)
        learner = Learner(
            model,
            make_optimizer(params, training.mixed_precision),
            asked.loss,
            params.ema,
            masked=masked,
            each=params.hard_examples > 0,
            jit_compile=training.jit_compile,
        )
    replicas = strategy.num_replicas_in_sync if strategy else 1
    fingerprint = _fingerprint(params, training, batches, holdout, metric, prior, seed, replicas, task, start, masked)
    folder = CheckpointFolder(work, fingerprint)
    history, best, again = _resumed(folder, learner)
    judge = _Judge(model, holdout, metric, asked, params.batch_size) if holdout is not None else None
    while len(history) < params.epochs and not stopped(history, training.patience, asked.settled):
        learner.learn_by(asked.loss_of(len(history)))
        record, again = _epoch(params, learner, batches, seed, history, again)
        with learner.averaged():
            record |= judge() if judge else {}
            history.append(record)
            if judge and best_epoch(history) == len(history):
                best = _weights(model)
        hard = {} if again is None else {_AGAIN: again}
        folder.save(Checkpoint(history, learner.state() | hard, best))
        if on_epoch:
            on_epoch(len(history), dict(record))
    with learner.averaged():
        final = list(best.values()) if best else model.get_weights()
    if strategy:  # variables of the result shall not be spread over devices
        blank = params.model_copy(update={"weights": "none"})
        model = build_model(blank, asked, mixed_precision=training.mixed_precision)
    model.set_weights(final)
    return TrainResult(model, pd.DataFrame(history).astype({"epoch": int} if history else {}), best_epoch(history))


def _resumed(
    folder: CheckpointFolder, learner: Learner
) -> tuple[list[Record], dict[str, NDArray[Any]] | None, NDArray[np.int64] | None]:
    """History, weights of the best epoch, and rows that come again."""
    found = folder.latest()
    if found is None:
        return [], None, None
    learner.restore({name: array for name, array in found.state.items() if name != _AGAIN})
    _log.info("%s: going on after epoch %d", folder.folder, len(found.history))
    return list(found.history), found.best, found.state.get(_AGAIN)


def _epoch(
    params: ModelSection,
    learner: Learner,
    batches: EpochBatches,
    seed: int,
    history: list[Record],
    again: NDArray[np.int64] | None,
) -> tuple[Record, NDArray[np.int64] | None]:
    """One pass over the training images; its record without the holdout's part, and rows that the next has twice."""
    number, steps, started = len(history), batches.steps_per_epoch, time.monotonic()
    learner.reseed(seed, number)
    if again is None:
        items = batches.epoch(number)
    else:
        items, steps = batches.epoch(number, again), -(-len(batches.order(number, again)) // params.batch_size)
    row_losses = []
    if params.mixup or params.cutmix:
        items = mixed_up(items, params.mixup, seed, number, per=params.mixup_per, cutmix=params.cutmix)
    losses, sizes, rates = [], [], []
    # steps × size says at most one batch too many, and the bar is only a bar
    with bar(total=steps * params.batch_size, desc=f"epoch {number + 1}/{params.epochs}", unit="image") as progress:
        for step, (images, targets) in enumerate(ahead(items)):
            # The first step of a warm-up is not 0, and the last step of the training is the lowest rate.
            position = number + (step + 1 if number < params.schedule.warmup_epochs else step) / steps
            rates.append(learning_rate(params.schedule, params.learning_rate, params.epochs, position, history))
            losses.append(learner.step(images, targets, rates[-1]))
            row_losses.append(learner.row_losses)
            sizes.append(len(images))
            progress.update(len(images))
            if step % 20 == 0 and not progress.disable:  # reading it waits for the GPU
                progress.set_postfix(loss=f"{float(losses[-1]):.4f}")
    if not losses:
        raise UserError("there are no images to train on")
    loss = float(np.average([float(value) for value in losses], weights=sizes))
    if not math.isfinite(loss):
        raise UserError(
            f"training diverged: the loss of epoch {number + 1} is {loss}. Lower learning_rate "
            f"(now {params.learning_rate:g}) or add warm-up epochs (schedule.warmup_epochs)"
        )
    record = {
        "epoch": number + 1,
        "loss": loss,
        "learning_rate": rates[0],
        "seconds": round(time.monotonic() - started, 3),
    }
    if not params.hard_examples:
        return record, None
    return record, hardest(batches.order(number, again), np.concatenate(row_losses), params.hard_examples)


class _Judge:
    """Scores the model on the holdout: the task's loss, and the metric.

    Label sets are those of the task, or those at the best single threshold.
    """

    def __init__(
        self, model: keras.Model, holdout: Holdout, metric: MetricSection, task: Task, batch_size: int
    ) -> None:
        self._predict = compile_predict(model)
        self._images, targets = holdout
        self._targets = np.asarray(targets).astype(bool)
        self._metric, self._task = metric_of(metric), task
        self._batch_size = batch_size

    def __call__(self) -> Record:
        probability = np.concatenate([self._predict(batch) for batch in self._batches()])
        if len(probability) != len(self._targets):
            raise ValueError(f"the holdout gives {len(probability)} images for {len(self._targets)} rows of targets")
        score, threshold = self._score(probability)
        found = {"holdout_loss": self._task.monitor(self._targets, probability), holdout_column(self._metric): score}
        return found if threshold is None else found | {"holdout_threshold": threshold}

    def _score(self, probability: NDArray[np.float32]) -> tuple[float, float | None]:
        if self._task.label_sets is None or self._metric.wants != "label_sets":
            return self._metric.on_holdout(self._targets, probability)
        return self._metric.score(self._targets, self._task.label_sets(probability)), None

    def _batches(self) -> Iterable[NDArray[np.uint8]]:
        if callable(self._images):
            return self._images()
        starts = range(0, len(self._images), self._batch_size)
        return (self._images[start : start + self._batch_size] for start in starts)


def _weights(model: keras.Model) -> dict[str, NDArray[Any]]:
    return {f"weight/{i:05d}": weight for i, weight in enumerate(model.get_weights())}


def _fingerprint(
    params: ModelSection,
    training: TrainingSection,
    batches: EpochBatches,
    holdout: Holdout | None,
    metric: MetricSection,
    prior: NDArray[np.floating[Any]] | None,
    seed: int,
    replicas: int,
    task: str,
    start: Path | None,
    masked: bool,
) -> str:
    """Digest of what decides the result; the number of worker processes does not."""
    return digest(
        {
            "params": params.model_dump(mode="json"),
            "training": training.deciding,
            "steps_per_epoch": batches.steps_per_epoch,
            "holdout": None if holdout is None else np.packbits(np.asarray(holdout[1]).astype(bool)).tobytes().hex(),
            "metric": None if holdout is None else metric.model_dump(mode="json"),
            "prior": None if prior is None else np.asarray(prior, dtype=np.float64).tolist(),
            "seed": seed,
            "replicas": replicas,
            "task": task,
            **({} if start is None else {"start": sha256(start)}),
            **({"masked": True} if masked else {}),
        }
    )
