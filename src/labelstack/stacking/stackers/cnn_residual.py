"""The residual network: what windows over models add to a regression's logits, the same for every label."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count as count_up
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from labelstack.stacking.cells import row_blocks
from labelstack.stacking.stackers.array_stacker import CELLS
from labelstack.stacking.stackers.cnn_cells import Cells, Examples, turns, whole_rows
from labelstack.stacking.stackers.cnn_start import fit_start, left_out_logits, start_logits
from labelstack.stacking.stackers.cnn_steps import History, Steps
from labelstack.stacking.stackers.linear import LogisticStacker
from labelstack.stacking.stackers.logit_features import logits, rivals

Floats = NDArray[np.float32]
_Shown = Callable[[NDArray[np.int64], np.random.Generator], tuple[Iterator[Examples], Examples | None, int]]
log = logging.getLogger(__name__)
_CLIP = 1e-3  # of probabilities before their logits
_SCALE = 3.0  # logits are divided by this, which makes them about 1
_KNOWN = 5  # what is known of a label: the start's logit, three of the image's other labels, the prior's
_GENTLE = 0.1  # of label interactions: their weights move as fast as all others, and each label has its own
_EPOCH_STEPS = 16  # whatever the rows: weights that labels share learn by steps, not by passes over the rows
_STEP_SHARE, _STEP_CELLS = 0.01, (3_000, 12_000)  # of all images × labels that a step shows, about, and its bounds
_DRAWN_SHARE, _STEP_DRAWN = 0.0025, (768, 3_072)  # the same, of those that are drawn by their errors
_STEP_ROWS = (16, 256)
_HELD = 8_192  # images × labels to stop by, drawn where there are more
_HELD_ROWS, _HELD_CELLS = 200, 100_000  # to stop by: at most so many rows, or as many as have so many labels together
_SEED_STRIDE = 101  # more than a network has layers, each of which takes a seed of its own


@dataclass(frozen=True)
class ResidualNetworks:
    """A start, networks that correct it, and how they are built and trained.

    The answer is the mean over the networks of σ(start + correction). A correction is a network's that sees one label
    at a time, with the same weights for each: (kernel, 1) convolutions over the models' logits, then dense layers over
    what they found, the start's logit, how strong the image's other labels are and the label's prior. ``rank`` adds
    dense layers from the start's logits of all labels through so many units back to all labels. The last weights of
    both begin at zero, so training begins at the start.

    Attributes
    ----------
    settings : arguments of ``CNNStacker`` without those that are None
    shape : (n_models, n_labels)
    start : the regression
    models : Keras models, inputs as ``_arrays`` makes them, answer [n, n_labels]
    history : of each, ``loss`` by epoch and ``held_out`` before the first epoch and after each
    """

    settings: dict[str, Any]
    shape: tuple[int, int]
    start: LogisticStacker
    models: list[Any] = field(default_factory=list)
    history: list[History] = field(default_factory=list)

    @classmethod
    def fit(
        cls, settings: dict[str, Any], cube: Floats, targets: Floats, *, seeds: Sequence[int], progress: str
    ) -> ResidualNetworks:
        """Fit the start to all rows and a network for each seed; the start's logits of these rows are left-out ones."""
        shape = (cube.shape[1], cube.shape[2])
        start = fit_start(settings["start"], cube, targets, progress)
        fitted = cls(settings, shape, start)
        first = left_out_logits(start, cube, targets)
        steps = _steps(*fitted._architecture(traced=True))
        n, n_labels = targets.shape
        patience = settings["early_stopping"]
        share = 0 if patience is None or n < 2 else settings["holdout"]
        shown = fitted._whole_rows if settings["rank"] else fitted._cells
        examples = shown(cube, first, targets)
        for place, seed in enumerate(seeds):
            model = build_correction(*fitted._architecture(), seed=seed)
            held = np.sort(np.random.default_rng(seed).permutation(n)[: held_rows(n, n_labels, share)])
            epochs, to_stop_by, batch = examples(held, np.random.default_rng(seed))
            which = f"network {place + 1}/{len(seeds)}" if len(seeds) > 1 else ""
            description = " ".join(part for part in ("CNN stacker", progress, which) if part)
            history = steps.run(
                model,
                islice(epochs, settings["epochs"]),
                to_stop_by,
                batch=batch,
                patience=patience,
                learning_rate=settings["learning_rate"],
                weight_decay=settings["weight_decay"],
                averaging=settings["averaging"],
                description=description,
            )
            fitted.models.append(model)
            fitted.history.append(history)
            if share and int(np.argmin(history["held_out"])) == 0:
                log.info("%s: the start remains, no epoch was better on %d held-out rows", description, len(held))
        return fitted

    def _cells(self, cube: Floats, first: NDArray[np.float64], targets: Floats) -> _Shown:
        """Networks whose labels share all weights learn from cells, each step from the labels of one made-up image."""
        n, n_labels = targets.shape
        known = self._known(first)
        asked = self.settings["batch_size"]
        count = step_cells(n, n_labels) if asked is None else asked * n_labels

        def arrays(rows: NDArray[np.int64], labels: NDArray[np.int64]) -> list[Floats]:
            return [self._seen(cube[rows, :, labels].transpose(0, 2, 1)), known[rows, labels]]

        def examples(held: NDArray[np.int64], rng: np.random.Generator) -> tuple[Iterator[Examples], Any, int]:
            rows = np.setdiff1d(np.arange(n), held)
            to_stop_by = Cells(first, targets, held, arrays).held(_HELD, rng) if len(held) else None
            cells = Cells(first, targets, rows, arrays)
            log.info("CNN stacker: a step shows %d of %d images × labels, drawn by their errors", count, len(cells))
            return (cells.drawn(_EPOCH_STEPS, count, rng) for _ in count_up()), to_stop_by, 1

        return examples

    def _whole_rows(self, cube: Floats, first: NDArray[np.float64], targets: Floats) -> _Shown:
        """Networks that see all labels at once learn from rows."""
        n, n_labels = targets.shape
        arrays = self._arrays(cube, first)
        batch = self.settings["batch_size"] or batch_rows(n, n_labels)

        def examples(held: NDArray[np.int64], rng: np.random.Generator) -> tuple[Iterator[Examples], Any, int]:
            orders = turns(np.setdiff1d(np.arange(n), held), _EPOCH_STEPS * batch, rng)
            to_stop_by = whole_rows(arrays, first, targets, held) if len(held) else None
            return (whole_rows(arrays, first, targets, order) for order in orders), to_stop_by, batch

        return examples

    def predict(self, cube: Floats) -> list[Floats]:
        """Probabilities float32 [n, n_labels] of each network, in the blocks of rows in which the start answers."""
        steps = _steps(*self._architecture(traced=True))
        answers = [np.empty((len(cube), self.shape[1]), np.float32) for _ in self.models]
        for rows in row_blocks(len(cube), cube[0].size, CELLS):
            first = start_logits(self.start, cube[rows])
            arrays = self._arrays(cube[rows], first)
            for answer, model in zip(answers, self.models, strict=True):
                answer[rows] = expit(first + steps.correction(model, arrays))
        return answers

    def _architecture(self, traced: bool = False) -> tuple[Any, ...]:
        """Arguments of ``build_correction``; what is traced takes any number of labels where they share all weights."""
        own = self.settings
        channels = 2 if own["inputs"] == "both" else 1
        filters = tuple(own["filters"]) or None
        if filters and own["padding"] == "fit" and own["kernel"] > 1:
            filters = filters[: (self.shape[0] - 1) // (own["kernel"] - 1)]
        n_labels = None if traced and not own["rank"] else self.shape[1]
        layers = (own[name] for name in ("kernel", "padding", "units", "rank", "dropout"))
        return (self.shape[0], n_labels, channels, filters, *layers)

    def _arrays(self, cube: Floats, first: NDArray[np.float64]) -> list[Floats]:
        """Inputs of a network: the cube [n, n_models, n_labels, channels], what else is known of each label
        [n, n_labels, 5], with ``rank`` also the start's logits [n, n_labels]; all of them about 1."""
        known = self._known(first)
        arrays = [self._seen(cube), known]
        return [*arrays, np.ascontiguousarray(known[:, :, 0])] if self.settings["rank"] else arrays

    def _seen(self, cube: Floats) -> Floats:
        """What is seen of probabilities [n, n_models, n_labels], with channels as the last axis."""
        parts = []
        if self.settings["inputs"] in {"logit", "both"}:
            parts.append(logits(cube, _CLIP) / np.float32(_SCALE))
        if self.settings["inputs"] in {"probability", "both"}:
            parts.append(2 * cube - 1)
        return np.stack(parts, axis=-1).astype(np.float32)

    def _known(self, first: NDArray[np.float64]) -> Floats:
        """What else is known of each label [n, n_labels, 5]."""
        known = np.empty((*first.shape, _KNOWN), np.float32)
        known[:, :, 0] = first
        known[:, :, 1:4] = rivals(first).transpose(1, 0, 2)
        known[:, :, 4] = self.start.arrays_["prior"]
        known /= np.float32(_SCALE)
        return known


def build_correction(
    n_models: int,
    n_labels: int | None,
    channels: int,
    filters: Sequence[int] | None,
    kernel: int,
    padding: str,
    units: int,
    rank: int,
    dropout: float,
    *,
    seed: int,
) -> Any:
    """The Keras model of a correction, not compiled; its answer is zero until it is trained.

    ``filters`` None: nothing is seen of the models but the start. ``n_labels`` None: any, without ``rank``.
    """
    import keras

    layers = keras.layers

    def glorot(place: int) -> Any:
        return keras.initializers.GlorotUniform(seed=seed + place)

    cube = layers.Input((n_models, n_labels, channels), name="cube")
    known = layers.Input((n_labels, _KNOWN), name="known")
    seen, places = known, iter(range(_SEED_STRIDE))
    if filters is not None:
        x = cube
        for place, count in enumerate(filters):
            x = layers.Conv2D(
                count,
                (kernel, 1),
                padding="valid" if padding == "fit" else "same",
                activation="relu",
                kernel_initializer=glorot(next(places)),
                name=f"convolution_{place + 1}",
            )(x)
        whole = layers.Conv2D(
            units, (x.shape[1], 1), activation="relu", kernel_initializer=glorot(next(places)), name="models"
        )
        x = layers.Reshape((-1, units), name="labels")(whole(x))
        seen = layers.Concatenate(name="seen")([x, known])
    x = layers.Dense(units, activation="relu", kernel_initializer=glorot(next(places)), name="dense")(seen)
    if dropout:
        x = layers.Dropout(dropout, seed=seed, name="dropout")(x)
    x = layers.Dense(1, kernel_initializer="zeros", name="shared")(x)
    answer = layers.Reshape((-1,), name="shared_correction")(x)
    if not rank:
        return keras.Model([cube, known], answer, name="correction")
    start = layers.Input((n_labels,), name="start")
    x = layers.Dense(rank, activation="relu", kernel_initializer=glorot(next(places)), name="low_rank")(start)
    x = layers.Dense(n_labels, kernel_initializer="zeros", name="interaction")(x)
    x = layers.Rescaling(_GENTLE, name="gentle")(x)
    return keras.Model([cube, known, start], layers.Add(name="correction")([answer, x]), name="correction")


def step_cells(n: int, n_labels: int) -> int:
    """Images × labels of a step that are drawn by their errors, and tell more than as many that come in turn."""
    return int(np.clip(_DRAWN_SHARE * n * n_labels, *_STEP_DRAWN))


def batch_rows(n: int, n_labels: int) -> int:
    """Rows of a step for n rows: the fewer, the more labels each row shows to the weights that labels share."""
    cells = np.clip(_STEP_SHARE * n * n_labels, *_STEP_CELLS)
    return int(np.clip(2 ** round(math.log2(cells / n_labels)), *_STEP_ROWS))


def held_rows(n: int, n_labels: int, share: float) -> int:
    """Rows of n to stop by: the share, or as many as tell enough; none where it is 0."""
    return min(max(1, round(share * n)), max(_HELD_ROWS, _HELD_CELLS // n_labels)) if share else 0


def network_seeds(seed: int, count: int) -> list[int]:
    """Seeds of so many networks, each with room for its layers."""
    return [seed + place * _SEED_STRIDE for place in range(count)]


@lru_cache(maxsize=16)
def _steps(*architecture: Any) -> Steps:
    """The traced training of an architecture, for all fits of it: k + k (k − 1) / 2 where a stacker is nested."""
    return Steps(build_correction(*architecture, seed=0))
