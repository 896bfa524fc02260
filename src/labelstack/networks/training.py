"""Training of a base model: epochs that survive a kill and end with the same weights as if there had been none."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
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
from labelstack.networks.judge import Holdout
from labelstack.networks.learner import Learner
from labelstack.networks.model import build_model
from labelstack.networks.phases import Ways, phase_of, training_phases
from labelstack.networks.running_phase import RunningPhase, Setting
from labelstack.networks.schedules import best_epoch, learning_rate, lowered, stopped
from labelstack.networks.start import begin_with
from labelstack.networks.tasks import TASKS, by_group
from labelstack.params import digest
from labelstack.params.metric import MetricSection
from labelstack.params.models import LearningSection, ModelSection
from labelstack.params.schedule import ScheduleSection
from labelstack.params.section import Section
from labelstack.params.training import TrainingSection
from labelstack.scoring.attribute_rows import AttributeRows
from labelstack.support.errors import UserError
from labelstack.support.progress import bar
from labelstack.support.storage import sha256

OnEpoch = Callable[[int, dict[str, float]], None]

_log = logging.getLogger(__name__)
# Options that checkpoints are older than.
_LATER = ("phases", "features", "batch_norm", "group_rates", "clip_norm", "accumulate", "soft_labels")
_LATER_SCHEDULE = ("reload", "rise", "start_divisor", "end_divisor")
_AGAIN = "again"  # in a checkpoint: rows that the next epoch has twice


@dataclass(frozen=True)
class TrainResult:
    """What training gives.

    Attributes
    ----------
    model : keras.Model
        With the weights of the best epoch on the holdout, or of the last one without a holdout; moving averages if on.
    history : DataFrame
        A row per epoch: epoch (from 1), loss, learning_rate (of the first step), seconds, with phases phase (from 1);
        with a holdout also
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
    groups: Sequence[str] | None = None,
    held_out: AttributeRows | None = None,
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
    groups : str [n_labels], optional
        The label group of each label, where rows know one group alone.
    held_out : AttributeRows, optional
        What the rows of the holdout know, for metrics that go by it.

    Raises
    ------
    UserError
        Options or weights that do not fit, or a loss that is no longer finite.
    """
    metric = metric or MetricSection()
    phases = training_phases(params)
    if holdout is None and any(phase.schedule.reload for phase in phases):
        raise UserError("schedule.reload: goes back to the best epoch on held-out images: set training.holdout above 0")
    make_deterministic(seed)
    strategy = tf.distribute.MirroredStrategy() if training.multi_gpu else None
    asked = TASKS[task](params, n_labels, prior) if groups is None else by_group(params, groups, prior)
    asked = replace(asked, held_out=held_out)
    with strategy.scope() if strategy else nullcontext():
        model = build_model(params, asked, mixed_precision=training.mixed_precision)
        if start is not None:
            begin_with(model, start)
    replicas = strategy.num_replicas_in_sync if strategy else 1
    fingerprint = _fingerprint(params, training, batches, holdout, metric, prior, seed, replicas, task, start, masked)
    if groups is not None:
        fingerprint = digest([fingerprint, list(groups)])
    folder = CheckpointFolder(work, fingerprint)
    ways = Ways(model, params.group_rates)
    settled = max(asked.settled, phases[-1].begin)
    found = folder.latest()
    history = list(found.history) if found else []
    setting = Setting(params, asked, ways, batches, holdout, metric, work, fingerprint, training, masked, strategy)
    # A phase begins with the last weights of the one before, whose learner takes its last checkpoint.
    running = RunningPhase(setting, phase_of(phases, max(len(history) - 1, 0)))
    best, again = _resumed(folder, running.learner, found)
    while len(history) < params.epochs and not stopped(history, training.patience, settled):
        if (phase := phase_of(phases, len(history))) != running.phase:
            running = running.next(phase)
        if best and phase.schedule.reload and lowered(phase.schedule, history[phase.begin :]):
            running = running.go_back(list(best.values()))
        running.learner.learn_by(asked.loss_of(len(history)))
        record, again = _epoch(params, running, seed, history, again)
        with running.learner.averaged():
            record |= running.judge() if running.judge else {}
            history.append(record)
            if running.judge and best_epoch(history) == len(history):
                best = _weights(model)
        hard = {} if again is None else {_AGAIN: again}
        folder.save(Checkpoint(history, running.learner.state() | hard, best))
        if on_epoch:
            on_epoch(len(history), dict(record))
    learner = running.learner
    with learner.averaged():
        final = list(best.values()) if best else model.get_weights()
    running.end()
    if strategy:  # variables of the result shall not be spread over devices
        blank = params.model_copy(update={"weights": "none"})
        model = build_model(blank, asked, mixed_precision=training.mixed_precision)
    model.set_weights(final)
    whole = dict.fromkeys([key for key in ("epoch", "phase") if history and key in history[0]], int)
    return TrainResult(model, pd.DataFrame(history).astype(whole), best_epoch(history))


def _resumed(
    folder: CheckpointFolder, learner: Learner, found: Checkpoint | None
) -> tuple[dict[str, NDArray[Any]] | None, NDArray[np.int64] | None]:
    """Weights of the best epoch, and rows that come again."""
    if found is None:
        return None, None
    learner.restore({name: array for name, array in found.state.items() if name != _AGAIN})
    _log.info("%s: going on after epoch %d", folder.folder, len(found.history))
    return found.best, found.state.get(_AGAIN)


def _epoch(
    params: ModelSection,
    running: RunningPhase,
    seed: int,
    history: list[Record],
    again: NDArray[np.int64] | None,
) -> tuple[Record, NDArray[np.int64] | None]:
    """One pass over the training images; its record without the holdout's part, and rows that the next has twice."""
    learner, batches, phase = running.learner, running.batches, running.phase
    number, steps, started = len(history), batches.steps_per_epoch, time.monotonic()
    of_phase = history[phase.begin :]
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
            position = len(of_phase) + (step + 1 if len(of_phase) < phase.schedule.warmup_epochs else step) / steps
            rates.append(learning_rate(phase.schedule, phase.learning_rate, phase.epochs, position, of_phase))
            losses.append(learner.step(images, targets, rates[-1]))
            row_losses.append(learner.row_losses)
            sizes.append(len(images))
            progress.update(len(images))
            if step % 20 == 0 and not progress.disable:  # reading it waits for the GPU
                progress.set_postfix(loss=f"{float(losses[-1]):.4f}")
    learner.finish()
    if not losses:
        raise UserError("there are no images to train on")
    loss = float(np.average([float(value) for value in losses], weights=sizes))
    if not math.isfinite(loss):
        raise UserError(
            f"training diverged: the loss of epoch {number + 1} is {loss}. Lower learning_rate "
            f"(now {phase.learning_rate:g}) or add warm-up epochs (schedule.warmup_epochs)"
        )
    record = {
        "epoch": number + 1,
        "loss": loss,
        "learning_rate": rates[0],
        "seconds": round(time.monotonic() - started, 3),
    }
    if params.phases:
        record["phase"] = phase.number
    if not params.hard_examples:
        return record, None
    return record, hardest(batches.order(number, again), np.concatenate(row_losses), params.hard_examples)


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
    """Digest of what decides the result; the number of worker processes does not, nor a later option that is off."""
    said = _without_usual(params.as_trained(), LearningSection(), _LATER)
    said = {key: value for key, value in said.items() if key != "groups"}  # of its outputs, which count below
    said["schedule"] = _without_usual(said["schedule"], ScheduleSection(), _LATER_SCHEDULE)
    return digest(
        {
            "params": said,
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


def _without_usual(content: dict[str, Any], usual: Section, keys: tuple[str, ...]) -> dict[str, Any]:
    """Content without those of the keys whose values are the usual ones."""
    values = usual.model_dump(mode="json")
    return {key: value for key, value in content.items() if key not in keys or value != values[key]}
