"""Multi-label stratified folds, and out-of-fold prediction for every stacker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.errors import UserError
from labelstack.stacking.checks import check_answers, check_cube, check_folds
from labelstack.stacking.fold_ensemble import FoldEnsemble, mean_of
from labelstack.stacking.stackers import Stacker, load_stacker
from labelstack.storage import read_json, replacing_dir, write_json


def assign_folds(Y: ArrayLike, k: int, seed: int) -> NDArray[np.int64]:
    """Fold of each image, with every label spread over the folds as evenly as it goes.

    Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011): the label with the fewest images left is dealt out
    first, each image to the fold that lacks this label most, then to the one with most room. Unlike the paper's, folds
    have a fixed size: n // k, and one more in the first n % k.

    Parameters
    ----------
    Y : 0/1 [n, n_labels]
    k : number of folds, 2 … n
    seed : breaks ties

    Returns
    -------
    int64 [n] in 0 … k − 1, each used

    Raises
    ------
    UserError
        When k is below 2 or above the number of images.
    """
    answers = check_answers(Y)
    n = len(answers)
    if not 2 <= k <= n:
        raise UserError(f"folds.k is {k}: {n} images can be split into 2 … {n} folds")
    rng = np.random.default_rng(seed)
    room = np.full(k, n // k)
    room[: n % k] += 1
    lack = room[:, None] / n * answers.sum(axis=0)  # [k, n_labels] images of each label that each fold still wants
    folds = np.full(n, -1, np.int64)
    left = answers.sum(axis=0)
    shuffled = rng.permutation(n)
    members = [shuffled[answers[shuffled, label]] for label in range(answers.shape[1])]
    while left.any():
        label = int(np.argmin(np.where(left > 0, left, n + 1)))
        for image in members[label]:
            if folds[image] < 0:
                _deal(int(image), _neediest(lack[:, label], room, rng), folds, room, lack, left, answers)
    for image in shuffled[folds[shuffled] < 0]:  # images without labels
        folds[image] = _neediest(room.astype(np.float64), room, rng)
        room[folds[image]] -= 1
    return folds


def _neediest(lack: NDArray[np.float64], room: NDArray[np.int64], rng: np.random.Generator) -> int:
    open_ = np.where(room > 0, lack, -np.inf)
    best = np.flatnonzero(open_ >= open_.max() - 1e-9)
    best = best[room[best] == room[best].max()]
    return int(best[0] if len(best) == 1 else rng.choice(best))


def _deal(
    image: int,
    fold: int,
    folds: NDArray[np.int64],
    room: NDArray[np.int64],
    lack: NDArray[np.float64],
    left: NDArray[np.int64],
    answers: NDArray[np.bool_],
) -> None:
    labels = np.flatnonzero(answers[image])
    folds[image] = fold
    room[fold] -= 1
    lack[fold, labels] -= 1
    left[labels] -= 1


@dataclass(frozen=True)
class OutOfFold:
    """What k-fold training of a stacker gives.

    Attributes
    ----------
    oof : float32 [n, n_labels], each row predicted by the stacker that did not see it
    test : float32 [m, n_labels], mean over the fold models, or None without a test cube
    stackers : the fold models, in order
    """

    oof: NDArray[np.float32]
    test: NDArray[np.float32] | None
    stackers: list[Stacker] = field(repr=False)

    @property
    def ensemble(self) -> FoldEnsemble:
        """The fold models as one stacker; its prediction on the test cube is ``test``."""
        return FoldEnsemble(self.stackers)


def out_of_fold(
    make_stacker: Callable[[], Stacker],
    cube: ArrayLike,
    Y: ArrayLike,
    folds: ArrayLike,
    *,
    test_cube: ArrayLike | None = None,
    on_fold: Callable[[int, NDArray[np.int64], NDArray[np.float32]], None] | None = None,
    work: str | Path | None = None,
) -> OutOfFold:
    """Train a stacker on each k − 1 folds and predict the remaining one, and the test cube with all.

    Parameters
    ----------
    make_stacker : gives a new, unfitted stacker
    cube : float [n, n_models, n_labels]
    Y : 0/1 [n, n_labels]
    folds : int [n], from ``assign_folds``
    test_cube : float [m, n_models, n_labels], optional
    on_fold : called after each fold with its number, its rows int64 and their probabilities float32 [rows, n_labels]
    work : folder in which finished folds are kept; a rerun with equal data and parameters takes them from there
    """
    values = check_cube(cube)
    answers = check_answers(Y, (values.shape[0], values.shape[2]))
    assigned = check_folds(folds, len(values))
    tests = None if test_cube is None else check_cube(test_cube, fitted=(values.shape[1], values.shape[2]))
    k = int(assigned.max()) + 1
    key = "" if work is None else _key(make_stacker(), values, answers, assigned, tests)
    oof = np.empty(answers.shape, np.float32)
    stackers, test_parts = [], []
    for fold in range(k):
        rows = np.flatnonzero(assigned == fold)
        kept = None if work is None else _Fold.read(Path(work) / f"fold-{fold}", key)
        if kept is None:
            stacker = make_stacker()
            train = assigned != fold
            stacker.fit(values[train], answers[train], progress=f"fold {fold + 1}/{k}")
            test = None if tests is None else stacker.predict_proba(tests)
            kept = _Fold(stacker, stacker.predict_proba(values[rows]), test)
            if work is not None:
                kept.write(Path(work) / f"fold-{fold}", key)
        oof[rows] = kept.oof
        stackers.append(kept.stacker)
        test_parts += [] if kept.test is None else [kept.test]
        if on_fold is not None:
            on_fold(fold, rows, kept.oof)
    return OutOfFold(oof, mean_of(test_parts) if test_parts else None, stackers)


@dataclass(frozen=True)
class _Fold:
    """One finished fold, and its folder in ``work``."""

    stacker: Stacker
    oof: NDArray[np.float32]
    test: NDArray[np.float32] | None

    def write(self, directory: Path, key: str) -> None:
        arrays = {"oof": self.oof} | ({} if self.test is None else {"test": self.test})
        with replacing_dir(directory) as temporary:
            self.stacker.save(temporary / "stacker")
            np.savez(temporary / "predictions.npz", allow_pickle=False, **arrays)
            write_json(temporary / "key.json", {"key": key})

    @classmethod
    def read(cls, directory: Path, key: str) -> _Fold | None:
        """The fold kept for this key, or None; ``write`` makes folders whole or not at all."""
        if not directory.is_dir() or read_json(directory / "key.json")["key"] != key:
            return None
        with np.load(directory / "predictions.npz", allow_pickle=False) as arrays:
            return cls(load_stacker(directory / "stacker"), arrays["oof"], arrays.get("test"))  # type: ignore[arg-type]


def _key(stacker: Stacker, *arrays: NDArray[np.generic] | None) -> str:
    digest = hashlib.sha256(f"{type(stacker).__name__} {json.dumps(stacker.get_params(), sort_keys=True)}".encode())
    for array in arrays:
        if array is None:
            digest.update(b"none")
        else:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
