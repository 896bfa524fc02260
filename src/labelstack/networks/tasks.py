"""What a network is asked: its outputs, the loss that teaches them, and the answer that they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from labelstack.networks.group_softmax import GroupSoftmax, group_sizes
from labelstack.networks.losses.combined import phases_of
from labelstack.params.models import ModelSection
from labelstack.scoring.attribute_rows import AttributeRows
from labelstack.scoring.metrics import most_probable

# A label that no training image carries, or that all carry, still gets a finite bias.
_RAREST = 1e-4

Loss = Callable[[Any, Any, Any], Any]
Monitor = Callable[[NDArray[np.bool_], NDArray[np.float32]], float]


class LossFunction(Protocol):
    """What a name of ``params.loss_names`` or the entry point of a plug-in stands for."""

    def __call__(self, targets: Any, logits: Any, known: Any, frequency: NDArray[np.floating[Any]] | None) -> Any:
        """Loss of each row, float32 [n], of labels on their own the mean over them; TensorFlow operations, traced once.

        Parameters
        ----------
        targets : float32 tensor [n, outputs], 0 … 1, soft after mixup and label smoothing
        logits : float32 tensor [n, outputs]
        known : float32 tensor [n, outputs], 1 where the row knows the label, else 0, and the target is 0; None: every
            row knows all. Labels that are not known must count nothing, a row that knows none 0
        frequency : float [outputs], share of the training images with each label; None: not known
        """


@dataclass(frozen=True)
class Task:
    """What a network is asked.

    Attributes
    ----------
    outputs : int, logits of a row
    losses : epoch from 0 → what is learned by from then on, a callable (targets [n, outputs], logits [n, outputs],
        known) → float32 loss of each row [n]; known as of ``LossFunction``
    activation : name of the Keras activation that makes the answer of the logits, or one of our own
    first_bias : float32 [outputs], of the layer of logits when training starts; None: zeros
    monitor : callable (targets bool [n, outputs], answers float32 [n, outputs]) → the loss of rows that are held out
    label_sets : callable (answers [n, outputs]) → bool [n, outputs], what held-out rows are given while the network is
        trained; None: what the best single threshold gives
    within : callable (targets, answers [n, outputs]) → answers of what each held-out row knows, 0 elsewhere; None: all
    held_out : the label groups that held-out rows know; None: all of them
    """

    outputs: int
    losses: dict[int, Loss]
    activation: str | GroupSoftmax
    first_bias: NDArray[np.float32] | None
    monitor: Monitor
    label_sets: Callable[[NDArray[np.float32]], NDArray[np.bool_]] | None = None
    within: Callable[[NDArray[np.bool_], NDArray[np.float32]], NDArray[np.float32]] | None = None
    held_out: AttributeRows | None = None

    def loss_of(self, epoch: int) -> Loss:
        """What an epoch, from 0, learns by."""
        return self.losses[max(begin for begin in self.losses if begin <= epoch)]

    @property
    def loss(self) -> Loss:
        """What the first epoch learns by."""
        return self.loss_of(0)

    @property
    def settled(self) -> int:
        """Epochs before the last of the losses begins."""
        return max(self.losses)


def multi_label(params: ModelSection, n_labels: int, prior: NDArray[np.floating[Any]] | None = None) -> Task:
    """Every label true or false on its own: sigmoids, with ``params.loss`` on targets smoothed to y·(1 − s) + s/2.

    Parameters
    ----------
    prior : float [n_labels], optional
        Share of training images with each label; its logit becomes the first bias, so that training starts from the
        label frequencies instead of 0.5.
    """
    smoothing = params.label_smoothing

    def smoothed(targets: Any, known: Any) -> Any:
        return targets * (1 - smoothing) + smoothing / 2

    losses = _losses(params, smoothed, prior)
    return Task(n_labels, losses, "sigmoid", None if prior is None else _logit(prior), cross_entropy)


def single_label(params: ModelSection, n_labels: int, prior: NDArray[np.floating[Any]] | None = None) -> Task:
    """Exactly one label is true: a softmax, with ``params.loss`` on targets smoothed to y·(1 − s) + s/n.

    n is the number of labels that the row knows.


    Parameters
    ----------
    prior : float [n_labels], optional
        Share of training images with each label; its logarithm becomes the first bias.
    """
    smoothing = params.label_smoothing

    def smoothed(targets: Any, known: Any) -> Any:
        share = n_labels if known is None else tf.maximum(tf.reduce_sum(known, axis=-1, keepdims=True), 1)
        return targets * (1 - smoothing) + smoothing / share

    bias = None if prior is None else np.log(np.maximum(np.asarray(prior, np.float64), _RAREST)).astype(np.float32)
    return Task(n_labels, _losses(params, smoothed, prior), "softmax", bias, categorical_cross_entropy, most_probable)


def by_group(params: ModelSection, groups: Sequence[str], prior: NDArray[np.floating[Any]] | None = None) -> Task:
    """Exactly one label of the group that a row knows is true: a softmax for each group, as of networks of their own.

    ``params.loss`` is on the logits of the group that a row knows; the answers of every group sum to 1 over their
    number. Held-out rows are judged by what is said of their group, which is that of their true label.

    Parameters
    ----------
    groups : [n_labels], the label group of each label
    prior : float [n_labels], optional
        Share of training images with each label; the logarithm of its share of the group becomes the first bias.
    """
    activation, usual = GroupSoftmax(group_sizes(groups)), single_label(params, len(groups), prior)
    same = np.equal.outer(np.array(groups), np.array(groups))
    bias = None
    if prior is not None:
        share = np.asarray(prior, np.float64)
        of_group = share @ same
        share = np.divide(share, of_group, out=np.ones_like(share), where=of_group > 0)
        bias = np.log(np.maximum(share, _RAREST)).astype(np.float32)

    def within(targets: NDArray[np.bool_], answers: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(targets @ same, answers * np.float32(len(activation.sizes)), 0).astype(np.float32)

    return replace(usual, activation=activation, first_bias=bias, within=within)


# By the value of ``dataset.task``.
TASKS: dict[str, Callable[..., Task]] = {"multi_label": multi_label, "single_label": single_label}


def _losses(
    params: ModelSection, smoothed: Callable[[Any, Any], Any], prior: NDArray[np.floating[Any]] | None
) -> dict[int, Loss]:
    """The losses of ``params`` on smoothed targets, by the epoch that they begin with."""

    def on_smoothed(function: LossFunction) -> Loss:
        def loss(targets: Any, logits: Any, known: Any) -> Any:
            targets = smoothed(tf.cast(targets, tf.float32), known)
            if known is not None:
                targets *= known
            return function(targets, tf.cast(logits, tf.float32), known, prior)

        return loss

    return {begin: on_smoothed(function) for begin, function in phases_of(params.loss)}


def categorical_cross_entropy(targets: NDArray[np.bool_], probability: NDArray[np.float32]) -> float:
    """Mean over rows of −ln of the true label's probability [n, n_labels], kept 1e-7 from 0."""
    return float(-np.log(np.maximum(probability.astype(np.float64)[targets], 1e-7)).mean())


def cross_entropy(targets: NDArray[np.bool_], probability: NDArray[np.float32]) -> float:
    """Mean binary cross-entropy of probabilities [n, n_labels], kept 1e-7 from 0 and 1."""
    clipped = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.where(targets, np.log(clipped), np.log1p(-clipped)).mean())


def _logit(prior: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    share = np.clip(np.asarray(prior, dtype=np.float64), _RAREST, 1 - _RAREST)
    bias: NDArray[np.float32] = np.log(share / (1 - share)).astype(np.float32)
    return bias
