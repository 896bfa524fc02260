"""Training of a U-Net: phases at their own sizes, epochs that survive a kill and end with the same weights."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from labelstack.networks.checkpoint import Checkpoint, CheckpointFolder, Record
from labelstack.networks.depth import flat_layers
from labelstack.networks.determinism import make_deterministic
from labelstack.networks.feeding import ahead
from labelstack.networks.inference import save_model
from labelstack.networks.learner import Learner
from labelstack.networks.phases import Way
from labelstack.networks.schedules import best_epoch, learning_rate
from labelstack.networks.tasks import Loss
from labelstack.params.segmenters import SegmenterPhase, SegmenterSection
from labelstack.segmentation.cycled_adamw import CycledAdamW, momentum_at
from labelstack.segmentation.photo_batches import MaskBatches
from labelstack.segmentation.unet import UNet, build_unet
from labelstack.support.errors import UserError
from labelstack.support.progress import bar

Judge = Callable[[keras.Model, SegmenterPhase], dict[str, float]]
OnEpoch = Callable[[int, dict[str, float], keras.Model], None]

_log = logging.getLogger(__name__)
_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8)
_CLASSES = tf.TensorSpec([None, None, None], tf.int32)


@dataclass(frozen=True)
class TrainedUNet:
    """What training gives.

    Attributes
    ----------
    model : keras.Model
        From ``build_unet``, with the weights of the last epoch, or of the best where ``keep`` says so.
    history : DataFrame
        A row per epoch: epoch and phase (from 1), loss, learning_rate (of the first step), seconds, and what the judge
        says.
    """

    model: keras.Model
    history: pd.DataFrame


def train_unet(
    section: SegmenterSection,
    batches_of: Callable[[SegmenterPhase], MaskBatches],
    loss: Loss,
    *,
    seed: int,
    work: Path | None = None,
    fingerprint: str = "",
    judge: Judge | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainedUNet:
    """Train phase after phase, each with the last weights of the one before and an optimizer of its own.

    Parameters
    ----------
    batches_of : callable (phase) → batches of its size
        Such as ``PhotoBatches``.
    loss : from ``pixel_loss``
    seed : int
        With section, data and machine it fixes the result, interrupted or not.
    work : Path, optional
        Folder for checkpoints, and for ``phase-1.keras`` …, what each phase ended with. None: nothing is kept.
    fingerprint : str
        Digest of all that decides the result; checkpoints of another are passed over.
    judge : callable (model, phase) → scores on held-out photos, each named ``holdout_…``, the one to go by first
    on_epoch : callable (epoch from 1, record, model), optional
        Called when an epoch's checkpoint is on disk; not again for epochs found in ``work``.

    Raises
    ------
    UserError
        What the backbone does not take, or a loss that is no longer finite.
    """
    make_deterministic(seed)
    unet = build_unet(section)
    folder = None if work is None else CheckpointFolder(work, fingerprint)
    found = folder.latest() if folder else None
    history = list(found.history) if found else []
    running = _Running(section, unet, batches_of, loss, place_of(section, max(len(history) - 1, 0)))
    best = found.best if found else None
    if found:
        running.learner.restore(found.state)
        _log.info("%s: going on after epoch %d", work, len(history))
    while len(history) < section.epochs:
        if (place := place_of(section, len(history))) != running.place:
            _keep(work, running)
            running = _Running(section, unet, batches_of, loss, place)
        record = running.epoch(seed, len(history))
        record |= judge(unet.model, running.phase) if judge else {}
        history.append(record)
        if judge and best_epoch(history) == len(history):
            best = {f"weight/{i:05d}": weight for i, weight in enumerate(unet.model.get_weights())}
        if folder:
            folder.save(Checkpoint(history, running.learner.state(), best))
        if on_epoch:
            on_epoch(len(history), dict(record), unet.model)
    _keep(work, running)
    if best is not None and section.keep == "best":
        unet.model.set_weights(list(best.values()))
    return TrainedUNet(running.whole(), pd.DataFrame(history))


def place_of(section: SegmenterSection, epoch: int) -> tuple[int, int]:
    """Number of an epoch's phase, from 0, and the epoch that it begins with."""
    begin = 0
    for number, phase in enumerate(section.phases):
        if epoch < begin + phase.epochs:
            return number, begin
        begin += phase.epochs
    raise ValueError(f"there are {begin} epochs, and {epoch} is behind the last")


def trained_way(unet: UNet, phase: SegmenterPhase) -> Way:
    """How a phase goes through the network: what learns, and at which share of the learning rate.

    With ``train: decoder`` the encoder's normalization learns as well unless ``batch_norm`` says other: ``learn``
    (fastai's ``train_bn``) its scales, shifts and statistics, ``moving`` its statistics alone, ``frozen`` nothing.
    """
    encoder = unet.model.get_layer("encoder")
    layers = list(flat_layers(encoder))
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.trainable = True
    of_norms = {id(v) for layer in norms for v in layer.trainable_variables}
    of_encoder = {id(v): 0 if layer.name in unet.early else 1 for layer in layers for v in layer.trainable_variables}
    trained, factors = [], []
    for variable in unet.model.trainable_variables:
        group = of_encoder.get(id(variable), 2)
        if group == 2 or (phase.batch_norm == "learn" if id(variable) in of_norms else phase.train == "all"):
            trained.append(variable)
            factors.append(phase.group_rates[group])
    if phase.batch_norm == "frozen":
        for layer in norms:
            layer.trainable = False
    model = unet.model
    return Way(lambda x: model(x, training=True), _IMAGES, trained, model.weights, tuple(factors), _CLASSES)


class _Running:
    """A phase while it lasts."""

    def __init__(
        self,
        section: SegmenterSection,
        unet: UNet,
        batches_of: Callable[[SegmenterPhase], MaskBatches],
        loss: Loss,
        place: tuple[int, int],
    ) -> None:
        self.place, self.unet, self._section = place, unet, section
        self.phase = section.phases[place[0]]
        self._batches = batches_of(self.phase)
        way = trained_way(unet, self.phase)
        self._optimizer = CycledAdamW(way.factors or (), section.weight_decay, decay_all=section.faithful)
        self.learner = Learner(unet.model, self._optimizer, loss, way=way)

    def epoch(self, seed: int, number: int) -> Record:
        """One pass over the photos."""
        phase, steps, started = self.phase, self._batches.steps_per_epoch, time.monotonic()
        length = phase.epochs // phase.cycles
        within = (number - self.place[1]) % length
        self.learner.reseed(seed, number)
        losses, sizes, rates = [], [], []
        with bar(total=steps, desc=f"epoch {number + 1}/{self._section.epochs}", unit="batch") as progress:
            for step, (images, classes) in enumerate(ahead(self._batches.epoch(number))):
                position = within + (step + 1 if within < phase.schedule.warmup_epochs else step) / steps
                rates.append(learning_rate(phase.schedule, phase.learning_rate, length, position, []))
                self._optimizer.set_momentum(momentum_at(phase.schedule, self._section.momentum, position / length))
                losses.append(self.learner.step(images, classes.astype(np.int32, copy=False), rates[-1]))
                sizes.append(len(images))
                progress.update()
        loss = float(np.average([float(value) for value in losses], weights=sizes))
        if not math.isfinite(loss):
            raise UserError(
                f"training diverged: the loss of epoch {number + 1} is {loss}. Lower the phase's learning_rate "
                f"(now {phase.learning_rate:g})"
            )
        return {
            "epoch": number + 1,
            "phase": self.place[0] + 1,
            "loss": loss,
            "learning_rate": rates[0],
            "seconds": round(time.monotonic() - started, 3),
        }

    def whole(self) -> keras.Model:
        """The network with all layers as they were built."""
        for layer in flat_layers(self.unet.model):
            layer.trainable = True
        return self.unet.model


def _keep(work: Path | None, running: _Running) -> None:
    """What a phase ended with, unless it is there from before a kill."""
    if work is not None:
        save_model(running.whole(), work / f"phase-{running.place[0] + 1}.keras")


def forward_of(model: keras.Model) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """A function uint8 [b, h, w, 3] → logits float32 [b, h, w, classes], traced once for all sizes."""
    run = tf.function(lambda x: model(x, training=False), input_signature=[_IMAGES], autograph=False)
    return lambda images: np.asarray(run(tf.constant(images)), np.float32)
