"""Boosters of many labels at once: one thread for each, as XGBoost works outside Python's lock."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from labelstack.stacking.stackers.xgb_features import TreeColumns
from labelstack.support.cores import cores
from labelstack.support.progress import bar

Result = TypeVar("Result")
_SHARED_BYTES = 2**31  # at most so much for copies of a binned matrix that all labels share


def thread_count(n_jobs: int | None) -> int:
    """``n_jobs``, or the number of cores that this process may use."""
    return n_jobs or cores()


def each_label(
    work: Callable[[int], Result], labels: Sequence[int], threads: int, description: str
) -> Iterator[Result]:
    """``work(label)`` of each label in order, computed by so many threads; shows progress."""
    import xgboost

    start = partial(xgboost.set_config, nthread=1)  # a setting of that thread alone
    pool = ThreadPoolExecutor(max(1, min(threads, len(labels))), initializer=start)
    try:
        yield from bar(pool.map(work, labels), total=len(labels), desc=description, unit="label")
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class TreeTraining:
    """How the boosters of one stacker are trained.

    Attributes
    ----------
    settings : parameters of ``xgboost.train``, with one thread
    rounds : trees of a label, at most
    patience : stop a label after so many rounds without gain on its held-out rows; None to grow all trees
    holdout : share of the rows that is held out, of positives and negatives alike
    seed : of the held-out rows
    threads : labels at a time
    """

    settings: dict[str, Any]
    rounds: int
    patience: int | None
    holdout: float
    seed: int
    threads: int

    def boosters(
        self, columns: TreeColumns, targets: NDArray[np.float32], labels: Sequence[int], description: str
    ) -> dict[int, Any]:
        """One booster for each of the labels; ``targets`` is float32 [n, n_labels]."""
        matrices = _Matrices(columns, min(self.threads, len(labels))) if labels else None

        def train(label: int) -> Any:
            assert matrices is not None
            with matrices.of(label) as matrix:
                matrix.set_info(label=targets[:, label], base_margin=columns.margin(label))
                return self._booster(matrix, targets[:, label], label)

        threads = matrices.parallel if matrices else 1
        return dict(zip(labels, each_label(train, labels, threads, description), strict=True))

    def _booster(self, matrix: Any, y: NDArray[np.float32], label: int) -> Any:
        import xgboost

        rounds = self.rounds
        held = None if self.patience is None else held_out(y, self.holdout, (self.seed, label))
        if held is not None:
            matrix.set_weight(np.where(held, 0, 1).astype(np.float32))
            rounds = self._best_rounds(matrix, y[held], held)
            matrix.set_weight(np.ones(len(y), np.float32))
        booster = xgboost.Booster(self.settings, [matrix])  # what ``xgboost.train`` does, without its callbacks
        for done in range(rounds):
            booster.update(matrix, done)
        booster.reset()
        booster.set_param({"device": "cpu", "nthread": 1})  # to predict; a loaded booster does the same
        return booster

    def _best_rounds(self, matrix: Any, y: NDArray[np.float32], held: NDArray[np.bool_]) -> int:
        """Rounds with the least cross-entropy on the held-out rows, which have weight 0 in the matrix."""
        import xgboost

        assert self.patience is not None
        booster = xgboost.Booster(self.settings, [matrix])
        best, least = 1, np.inf
        for done in range(1, self.rounds + 1):
            booster.update(matrix, done - 1)
            margin = booster.predict(matrix, output_margin=True)[held].astype(np.float64)
            loss = float((np.logaddexp(0, margin) - y * margin).mean())
            if loss < least:
                best, least = done, loss
            elif done - best >= self.patience:
                break
        return best


def held_out(y: NDArray[np.float32], share: float, seed: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Rows bool [n] to hold out: the share of the positives and of the negatives, at least one of each.

    None where there are fewer than two of either: nothing to compare by.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(y), np.bool_)
    for rows in (np.flatnonzero(y >= 0.5), np.flatnonzero(y < 0.5)):
        if len(rows) < 2:
            return None
        held[rng.permutation(rows)[: max(1, round(share * len(rows)))]] = True
    return held


class _Matrices:
    """Binned matrices: one for each label, or where all labels share their columns one for each thread."""

    def __init__(self, columns: TreeColumns, threads: int) -> None:
        self.columns, self.parallel = columns, threads
        self.free: queue.SimpleQueue[Any] | None = None
        if columns.features == "all":
            self._share(threads)

    def _share(self, threads: int) -> None:
        import xgboost

        self.free = queue.SimpleQueue()
        x = self.columns.of(0)
        self.parallel = max(1, min(threads, _SHARED_BYTES // x.size))  # a byte for each value
        first = None
        for _ in range(self.parallel):
            matrix = xgboost.QuantileDMatrix(x, ref=first, nthread=threads)
            first = first or matrix
            self.free.put(matrix)

    @contextmanager
    def of(self, label: int) -> Iterator[Any]:
        """The label's matrix, for this thread alone."""
        if self.free is None:
            import xgboost

            yield xgboost.QuantileDMatrix(self.columns.of(label), nthread=1)
            return
        matrix = self.free.get()
        try:
            yield matrix
        finally:
            self.free.put(matrix)
