"""Out-of-fold prediction for every stacker, nested where what is chosen afterwards must be scored honestly."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.stacking.array_checks import check_cube, check_folds, check_targets
from labelstack.stacking.cells import row_blocks
from labelstack.stacking.sampling import some_rows
from labelstack.stacking.stackers.averaging import mean_of
from labelstack.stacking.stackers.construction import load_stacker, new_stacker, reference_of
from labelstack.stacking.stackers.fold_ensemble import FoldEnsemble
from labelstack.stacking.stackers.stacker import Stacker
from labelstack.support.progress import bar
from labelstack.support.sealed import is_sealed, seal
from labelstack.support.storage import replacing, replacing_dir

log = logging.getLogger(__name__)
_BLOCK = 60_000_000  # numbers of a cube that are copied to be answered: blocks, where a machine's memory is at stake
IN_MEMORY = 500_000_000  # bytes of a cube, or of all that a blend is chosen on: more stays in files
_MUCH = 2_000_000_000  # bytes of nested predictions that are warned of
_ROOM = __name__.rpartition(".")[0]

if TYPE_CHECKING:
    from labelstack.compute.jobs import Map


NestedBlocks = Iterator[tuple[slice, NDArray[np.float32]]]  # rows, and what is said of them float32 [b, k, n_labels]
# Keeps all blocks of (n, k, n_labels) predictions and gives the matrices [k, n, n_labels], see ``FoldPredictions``.
KeepNested = Callable[[tuple[int, int, int], NestedBlocks], NDArray[np.float32]]


@dataclass(frozen=True)
class FoldPredictions:
    """Probabilities of one member on the rows of the folds.

    Attributes
    ----------
    oof : float32 [n, n_labels], each row predicted without its own answer
    nested : float32 [k, n, n_labels] or None. ``nested[j]`` is made without any answer of fold j: rows of the other
        folds are out-of-fold within those, rows of fold j have the mean of the k − 1 models, as a new image has the
        mean of the fold models. None: ``oof`` serves for all (a base model never saw these rows; for stackers with
        k = 2 there is nothing left to nest).

    Both may be ``MappedRows`` and ``MappedFolds``, which lie in files.
    """

    oof: NDArray[np.float32]
    nested: NDArray[np.float32] | None = None

    def without(self, fold: int) -> NDArray[np.float32]:
        """Probabilities [n, n_labels] for choosing on the rows outside a fold and scoring on those inside."""
        return self.oof if self.nested is None else self.nested[fold]

    def like_new(self, folds: NDArray[np.int64]) -> NDArray[np.float32]:
        """Probabilities [n, n_labels] as new images have them: means of models, none of which saw the row's fold."""
        if self.nested is None:
            return self.oof
        result: NDArray[np.float32] = self.nested[folds, np.arange(len(folds))]
        return result


@dataclass(frozen=True)
class OutOfFold:
    """What k-fold training of a stacker gives.

    Attributes
    ----------
    oof : float32 [n, n_labels], each row predicted by the stacker that did not see it
    test : float32 [m, n_labels], mean over the fold models, or None without a test cube
    stackers : the fold models, in order
    nested : see ``FoldPredictions``; None unless asked for
    columns : names of the cube's models; None: not known
    """

    oof: NDArray[np.float32]
    test: NDArray[np.float32] | None
    stackers: list[Stacker] = field(repr=False)
    nested: NDArray[np.float32] | None = None
    columns: Sequence[str] | None = None

    @property
    def ensemble(self) -> FoldEnsemble:
        """The fold models as one stacker; its prediction on the test cube is ``test``."""
        return FoldEnsemble(self.stackers, self.columns)

    @property
    def predictions(self) -> FoldPredictions:
        """What the blend takes."""
        return FoldPredictions(self.oof, self.nested)


def out_of_fold(
    make_stacker: Callable[[], Stacker],
    cube: ArrayLike,
    Y: ArrayLike,
    folds: ArrayLike,
    *,
    test_cube: ArrayLike | None = None,
    nested: bool = False,
    columns: Sequence[str] | None = None,
    work: str | Path | None = None,
    map_: Map | None = None,
    keep_nested: KeepNested | None = None,
) -> OutOfFold:
    """Train a stacker on each k − 1 folds and predict the remaining one, and the test cube with all.

    Parameters
    ----------
    make_stacker : gives a new, unfitted stacker
    cube : float [n, n_models, n_labels]
    Y : 0/1 or soft [n, n_labels]
    folds : int [n], from ``assign_folds``
    test_cube : float [m, n_models, n_labels], optional
    nested : also train a model without each pair of folds, k (k − 1) / 2 of them; not with k = 2, where none has rows
    columns : names of the cube's models, kept with the fold models, which refuse others
    work : folder in which finished fits are kept; a rerun with equal data and parameters takes them from there
    map_ : ``Engine.map``, to fit on other machines; needs ``work``. None: here, one by one
    keep_nested : takes the nested predictions block by block, see ``KeepNested``; None: they are put together in memory

    A cube that is mapped from a file (``numpy.memmap``) stays there, with ``work`` its part for each fit too.
    """
    mapped = isinstance(cube, np.memmap)
    values = check_cube(cube)
    targets = check_targets(Y, (values.shape[0], values.shape[2]))
    assigned = check_folds(folds, len(values))
    tests = None if test_cube is None else check_cube(test_cube, fitted=(values.shape[1], values.shape[2]))
    k = int(assigned.max()) + 1
    pairs = list(combinations(range(k), 2)) if nested and k > 2 else []
    if pairs and (size := 4 * k * targets.size) > _MUCH:
        log.warning("nested predictions of a stacker take %.1f GB here; folds.nested: false does without", size / 1e9)
    data = _Data(values, targets, assigned, tests, Path(work) / "part.npy" if mapped and work is not None else None)
    without: list[tuple[int, ...]] = [*((fold,) for fold in range(k)), *pairs]
    oof = np.empty(targets.shape, np.float32)
    fits: dict[tuple[int, ...], _Fit] = {}
    todo = bar(_fits(make_stacker, data, without, work, map_), total=len(without), desc="stacker fits", unit="fit")
    with _said_once():
        for folds_out, fit in zip(without, todo, strict=True):
            fits[folds_out] = fit
            if len(folds_out) == 1:
                oof[assigned == folds_out[0]] = fit.held_out
    blocks = _nested(assigned, k, {pair: fits[pair].held_out for pair in pairs}) if pairs else None
    found = None
    if blocks is not None:
        found = (keep_nested or _in_memory)((len(assigned), k, targets.shape[1]), blocks)
    single = [fits[fold,] for fold in range(k)]
    test = None if tests is None else mean_of([fit.test for fit in single if fit.test is not None])
    return OutOfFold(
        oof,
        test,
        [fit.stacker for fit in single if fit.stacker is not None],
        found,
        columns,
    )


@contextmanager
def _said_once() -> Iterator[None]:
    """Let each warning of the stackers through once, and not again for every fold."""
    said: set[str] = set()

    def first_time(record: logging.LogRecord) -> bool:
        known = record.getMessage() in said
        said.add(record.getMessage())
        return not known

    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith(_ROOM)]
    for logger in loggers:
        logger.addFilter(first_time)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(first_time)


def _nested(folds: NDArray[np.int64], k: int, held_out: dict[tuple[int, ...], NDArray[np.float32]]) -> NestedBlocks:
    """Rows and their nested predictions, of what pair models predict of the rows of their two folds."""
    n_labels = next(iter(held_out.values())).shape[1]
    place = {pair: np.cumsum(np.isin(folds, pair)) - 1 for pair in held_out}
    for rows in row_blocks(len(folds), k * n_labels):
        here = folds[rows]
        block = np.empty((len(here), k, n_labels), np.float32)
        for fold in range(k):
            mine = np.flatnonzero(here == fold)
            others = [other for other in range(k) if other != fold]
            pairs = [(min(fold, other), max(fold, other)) for other in others]
            said = [np.asarray(held_out[pair][place[pair][rows.start + mine]]) for pair in pairs]
            for other, probability in zip(others, said, strict=True):
                block[mine, other] = probability
            block[mine, fold] = mean_of(said)
        yield rows, block


def _in_memory(shape: tuple[int, int, int], blocks: NestedBlocks) -> NDArray[np.float32]:
    n, k, n_labels = shape
    nested = np.empty((k, n, n_labels), np.float32)
    for rows, block in blocks:
        nested[:, rows] = block.transpose(1, 0, 2)
    return nested


@dataclass(frozen=True)
class _Data:
    cube: NDArray[np.float32]
    targets: NDArray[np.float32]
    folds: NDArray[np.int64]
    test: NDArray[np.float32] | None
    scratch: Path | None = None  # where the part of a fit lies; None: in memory

    def arrays(self) -> dict[str, NDArray[Any]]:
        named: dict[str, NDArray[Any]] = {"cube": self.cube, "targets": self.targets, "folds": self.folds}
        if self.test is not None:
            named["test"] = self.test
        return named


@dataclass(frozen=True)
class _Fit:
    """A stacker trained without some folds: what it predicts for their rows and, of single folds, for the test."""

    held_out: NDArray[np.float32]
    test: NDArray[np.float32] | None
    stacker: Stacker | None

    def write(self, directory: Path, key: str) -> None:
        arrays = {"held_out": self.held_out} | ({} if self.test is None else {"test": self.test})
        with replacing_dir(directory) as temporary:
            if self.stacker is not None:
                self.stacker.save(temporary / "stacker")
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array, allow_pickle=False)
            seal(temporary, key)

    @classmethod
    def read(cls, directory: Path) -> _Fit:
        stacker = load_stacker(directory / "stacker") if (directory / "stacker").is_dir() else None
        files = {name: directory / f"{name}.npy" for name in ("held_out", "test")}
        arrays = {name: np.load(file, mmap_mode="r") for name, file in files.items() if file.exists()}
        return cls(arrays["held_out"], arrays.get("test"), stacker)  # type: ignore[arg-type]


def _fit(stacker: Stacker, data: _Data, without: tuple[int, ...]) -> _Fit:
    """Train on all rows but those of the folds named; of pairs of folds only the predictions are kept."""
    held_out = np.isin(data.folds, without)
    others = np.flatnonzero(~held_out)
    others = others[some_rows(len(others), _most_rows(stacker))]
    k = int(data.folds.max()) + 1
    progress = " and ".join(f"fold {fold + 1}/{k}" for fold in without)
    with _part(data, others) as cube:
        stacker.fit(cube, data.targets[others], progress=progress)
    single = len(without) == 1
    test = None if data.test is None or not single else stacker.predict_proba(data.test)
    return _Fit(_answers(stacker, data.cube, np.flatnonzero(held_out)), test, stacker if single else None)


@contextmanager
def _part(data: _Data, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """Some rows of the cube; of one that lies in a file they lie in one too."""
    if data.scratch is None:
        yield data.cube[rows]
        return
    shape = (len(rows), *data.cube.shape[1:])
    with replacing(data.scratch) as temporary:
        part = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        for block in row_blocks(len(rows), data.cube[0].size):
            part[block] = data.cube[rows[block]]
        part.flush()
        yield part
    data.scratch.unlink()


def _answers(stacker: Stacker, cube: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Probabilities of some rows of a cube, of which not more than a block is copied at a time."""
    answers = np.empty((len(rows), cube.shape[2]), np.float32)
    for block in row_blocks(len(rows), cube[0].size, _BLOCK):
        answers[block] = stacker.predict_proba(cube[rows[block]])
    return answers


def _most_rows(stacker: Stacker) -> int | None:
    """Rows that it learns from at most: no more are copied out of the cube."""
    return stacker.get_params().get("rows") if getattr(stacker, "learns", True) else 1


def _fits(
    make_stacker: Callable[[], Stacker],
    data: _Data,
    without: list[tuple[int, ...]],
    work: str | Path | None,
    map_: Map | None,
) -> Iterator[_Fit]:
    if work is None:
        for folds in without:
            yield _fit(make_stacker(), data, folds)
        return
    work = Path(work)
    example = make_stacker()
    key = _key(example, data)
    jobs: list[dict[str, Any]] = [
        {
            "work": str(work),
            "key": key,
            "stacker": reference_of(example),
            "params": example.get_params(),
            "without": list(folds),
        }
        for folds in without
    ]
    todo = [job for job in jobs if not _kept(job)]
    if map_ is not None and todo:
        with replacing(work / "inputs.npz") as temporary, open(temporary, "wb") as stream:
            np.savez(stream, allow_pickle=False, **data.arrays())  # type: ignore[arg-type]
        inputs = str(work / "inputs.npz")
        for _ in map_(
            run_job,
            todo,
            desc=type(example).__name__,
            reads=lambda job: [inputs],
            writes=lambda job: [str(_folder(job))],
        ):
            pass
    for job in jobs:
        if not _kept(job):
            _fit(make_stacker(), data, tuple(job["without"])).write(_folder(job), key)
        yield _Fit.read(_folder(job))


def run_job(job: dict[str, Any]) -> None:
    """Do one fit of ``out_of_fold`` in any process that has its inputs; done ones are left alone."""
    if _kept(job):
        return
    with np.load(Path(job["work"]) / "inputs.npz", allow_pickle=False) as arrays:
        data = _Data(arrays["cube"], arrays["targets"], arrays["folds"], arrays.get("test"))
    _fit(new_stacker(job["stacker"], job["params"]), data, tuple(job["without"])).write(_folder(job), job["key"])


def _folder(job: dict[str, Any]) -> Path:
    return Path(job["work"]) / ("fold-" + "-".join(map(str, job["without"])))


def _kept(job: dict[str, Any]) -> bool:
    """Whether this fit lies in the work folder, and no byte of it has changed since."""
    return is_sealed(_folder(job), job["key"])


def _key(stacker: Stacker, data: _Data) -> str:
    digest = hashlib.sha256(f"npy {reference_of(stacker)} {json.dumps(stacker.get_params(), sort_keys=True)}".encode())
    for name, array in data.arrays().items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        for rows in row_blocks(len(array), max(1, array[:1].size)):
            digest.update(np.ascontiguousarray(array[rows]).tobytes())
    return digest.hexdigest()
