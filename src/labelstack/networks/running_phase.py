"""A phase while it lasts: its learner, the data that it takes, and who judges it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

from labelstack.networks.features import KeptFeatures
from labelstack.networks.feeding import EpochBatches
from labelstack.networks.inference import compile_predict
from labelstack.networks.judge import Holdout, Judge, in_batches
from labelstack.networks.learner import Learner, make_optimizer
from labelstack.networks.phases import Phase, Ways
from labelstack.networks.tasks import Task
from labelstack.params.metric import MetricSection
from labelstack.params.models import ModelSection
from labelstack.params.training import TrainingSection


@dataclass(frozen=True)
class Setting:
    """What all phases of a training share; see ``training.train``."""

    params: ModelSection
    task: Task
    ways: Ways
    batches: EpochBatches
    holdout: Holdout | None
    metric: MetricSection
    work: Path
    fingerprint: str
    training: TrainingSection
    masked: bool
    strategy: tf.distribute.Strategy | None


class RunningPhase:
    """A phase while it lasts. Optimizer and moving average begin anew.

    Attributes
    ----------
    phase : Phase
    learner : Learner
    batches : EpochBatches, images or kept features
    judge : Judge or None
    """

    def __init__(self, setting: Setting, phase: Phase) -> None:
        self.phase, self._setting = phase, setting
        params, model = setting.params, setting.ways.model
        with setting.strategy.scope() if setting.strategy else nullcontext():
            self._way = setting.ways.way(phase)
            self.learner = Learner(
                model,
                make_optimizer(params, setting.training.mixed_precision, phase, self._way.factors),
                setting.task.loss,
                params.ema,
                masked=setting.masked,
                each=params.hard_examples > 0,
                accumulate=params.accumulate,
                way=self._way,
                jit_compile=setting.training.jit_compile,
            )
        self._kept: KeptFeatures | None = None
        if phase.kept:
            self._kept = KeptFeatures(params, model, setting.batches, setting.work, setting.fingerprint)
        self.batches: Any = self._kept or setting.batches
        self.judge = self._judge(model) if setting.holdout is not None else None

    def next(self, phase: Phase) -> RunningPhase:
        """The next phase, which goes on with the weights of this one."""
        if not phase.kept:
            self._forget()
        return RunningPhase(self._setting, phase)

    def go_back(self, weights: Sequence[NDArray[Any]]) -> RunningPhase:
        """The same phase with other weights, such as those of the best epoch.

        Its optimizer begins anew: what it gathered led away from them.
        """
        self._setting.ways.model.set_weights(weights)
        return RunningPhase(self._setting, self.phase)

    def end(self) -> None:
        """Leave the network as it was built, but for its weights."""
        self._forget()
        self._setting.ways.whole()

    def _forget(self) -> None:
        if self._kept is not None:
            self._kept.remove()

    def _judge(self, model: keras.Model) -> Judge:
        assert self._setting.holdout is not None
        (images, targets), size = self._setting.holdout, self._setting.params.batch_size
        kept, batches, ways = self._kept, in_batches(images, size), self._setting.ways
        if kept is None:
            predict = compile_predict(model)
            return Judge(lambda: map(predict, batches()), targets, self._setting.metric, self._setting.task)
        answer = ways.answers(self._way)
        return Judge(  # kept features are computed when they are first asked for
            lambda: map(answer, in_batches(kept.held_out(batches), size)()),
            targets,
            self._setting.metric,
            self._setting.task,
        )
