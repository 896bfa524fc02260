"""Predictions on disk (``.npy`` without pickle) and the cube that stackers learn from.

A file is one array of records: ``image_id`` int64 and ``probability`` float32 [n_labels], of nested predictions
[k, n_labels], or ``logit`` float16 in its place; ``numpy.load(file, mmap_mode="r")`` maps it. Label sets are ``value``.
"""

from __future__ import annotations

import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from labelstack.support.archive import DAMAGED_ARCHIVE
from labelstack.support.dtypes import Dtype
from labelstack.support.errors import UserError
from labelstack.support.logits import BLOCK, MappedFolds, MappedRows, to_kept
from labelstack.support.storage import replacing

_MAGIC = b"\x93NUMPY"
_NAMES: dict[Dtype, str] = {"float32": "probability", "float16": "logit"}
_VALUE = "value"
_KINDS = {"probability": (np.float32,), "logit": (np.float16,), _VALUE: (np.bool_, np.float32)}
Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


class Predictions:
    """Probabilities of one model for some images; those of a file stay there until they are asked for.

    Parameters
    ----------
    image_id : int64 [n], unique
    probability : float32 [n, n_labels], each in 0…1; of nested predictions [n, k, n_labels]. NaN: a label that the
        model does not know, or a row that it was not shown, since it knows another label group
    kept : of the same shape, mapped from a file, in the place of ``probability``
    """

    def __init__(
        self, image_id: Ids, probability: NDArray[Any] | None = None, kept: NDArray[Any] | None = None
    ) -> None:
        self.image_id = image_id
        self._given, self._kept = probability, kept

    @cached_property
    def probability(self) -> Floats:
        """All of them, in memory."""
        return cast(Floats, self._given if self._kept is None else np.asarray(MappedRows(self._kept, self._every)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of ``probability``, which need not be in memory."""
        return cast(NDArray[Any], self._given if self._kept is None else self._kept).shape

    def places_of(self, image_id: Ids) -> Ids:
        """Rows of the given ids in their order; raise ``UserError`` when one is absent."""
        image_id = np.asarray(image_id, np.int64)
        if np.array_equal(image_id, self.image_id):
            return self._every
        order = np.argsort(self.image_id)
        place = np.searchsorted(self.image_id, image_id, sorter=order)
        rows = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(image_id), dtype=np.int64)
        missing = np.ones(len(image_id), bool) if not len(order) else self.image_id[rows] != image_id
        if missing.any():
            ids = ", ".join(str(i) for i in image_id[missing][:5])
            raise UserError(f"{int(missing.sum())} of {len(image_id)} images have no prediction (first ids: {ids})")
        return rows

    def rows_of(self, image_id: Ids) -> Floats:
        """Probabilities of the given ids in their order; raise ``UserError`` when one is absent."""
        return np.asarray(self.matrix(self.places_of(image_id)))

    def matrix(self, rows: Ids) -> Floats:
        """Probabilities of rows; those of a file, ``MappedRows``, are read whenever some are asked for."""
        if self._kept is None:
            return cast(Floats, cast(NDArray[Any], self._given)[rows])
        return cast(Floats, MappedRows(self._kept, rows))

    def folds(self, rows: Ids) -> Floats:
        """Of nested predictions in a file the matrices [k, n, n_labels] of rows, as ``matrix``: ``MappedFolds``."""
        if self._kept is None:
            return cast(Floats, cast(NDArray[Any], self._given)[rows].transpose(1, 0, 2))
        return cast(Floats, MappedFolds(self._kept, rows))

    @property
    def _every(self) -> Ids:
        return np.arange(len(self.image_id))


@contextmanager
def writing(
    path: str | Path, shape: tuple[int, ...], *, dtype: Dtype = "float32", unknown: bool = False
) -> Iterator[Callable[[Ids, NDArray[Any]], None]]:
    """Yield a function of ids int64 [b] and probabilities [b, n_labels] (nested: [b, k, n_labels]) that adds rows.

    The file is there when all are, ``shape[0]`` rows; equal content gives equal bytes.

    Parameters
    ----------
    shape : (n, n_labels), of nested predictions (n, k, n_labels)
    dtype : ``prediction.dtype``: float32 as they are, float16 as logits
    unknown : let NaN through: labels of groups that a model does not know

    Raises
    ------
    ValueError
        On rows that do not fit, ids that come twice, NaN, infinity, and what lies outside 0 … 1.
    """
    with _records(path, np.dtype(dtype), _NAMES[dtype], shape) as add:

        def add_checked(image_id: Ids, probability: NDArray[Any]) -> None:
            p = np.asarray(probability, np.float32)
            low, high = p.min(initial=1), p.max(initial=0)  # NaN spreads through them
            if unknown and np.isnan(low):
                low, high = np.nanmin(p, initial=1), np.nanmax(p, initial=0)
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ValueError("probability holds NaN or infinity")
            if low < 0 or high > 1:
                raise ValueError(f"probability must lie in 0 … 1, found {low:g} … {high:g}")
            add(image_id, to_kept(p, dtype))

        yield add_checked


def write_predictions(
    path: str | Path,
    image_id: Ids,
    probability: NDArray[Any],
    *,
    dtype: Dtype = "float32",
    unknown: bool = False,
) -> None:
    """Write probabilities [n, n_labels] (nested: [n, k, n_labels]); see ``writing``."""
    shape = np.shape(probability)
    _check(image_id, shape)
    with writing(path, shape, dtype=dtype, unknown=unknown) as add:
        for rows in _blocks(shape):
            add(image_id[rows], probability[rows])


def write_values(path: str | Path, image_id: Ids, values: NDArray[Any]) -> None:
    """Write what is no probability, label sets bool [n, n_labels] or numbers float32 [n, c], as it is; NaN too."""
    kind = np.bool_ if values.dtype == np.bool_ else np.float32
    _check(image_id, values.shape)
    with _records(path, np.dtype(kind), _VALUE, values.shape) as add:
        for rows in _blocks(values.shape):
            add(image_id[rows], values[rows])


def write_part(path: str | Path, image_id: Ids, probability: Floats) -> None:
    """Write unfinished work as ``.npz``, whose checksums tell damage: probabilities float32 to the last bit."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, image_id=np.asarray(image_id, np.int64), probability=np.asarray(probability, np.float32))


def read_predictions(path: str | Path) -> Predictions:
    """Map what ``writing`` or ``write_values`` wrote, or read what ``write_part`` did, as all files of before are.

    Raises ``UserError`` when the file is absent or something else.
    """
    try:
        with open(path, "rb") as file:
            mapped = file.read(len(_MAGIC)) == _MAGIC
        if mapped:
            return _mapped(path)
        with np.load(path, allow_pickle=False) as content:
            return Predictions(content["image_id"].astype(np.int64), content["probability"].astype(np.float32))
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (*DAMAGED_ARCHIVE, KeyError, TypeError, ValueError, SyntaxError, tokenize.TokenError) as error:
        raise UserError(f"{path}: not a predictions file of image_id and probability or logit ({error})") from None


def _mapped(path: str | Path) -> Predictions:
    records: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    names: tuple[str, ...] = records.dtype.names or ()
    if records.ndim != 1 or len(names) != 2 or names[0] != "image_id" or names[1] not in _KINDS:
        raise ValueError(f"found {records.dtype} {list(records.shape)}")
    content = records[names[1]]
    if records["image_id"].dtype != np.int64 or content.dtype not in _KINDS[names[1]] or content.ndim not in (2, 3):
        raise ValueError(f"found {records.dtype}")
    if (size := Path(path).stat().st_size) != records.offset + records.nbytes:
        raise ValueError(f"{size - records.offset - records.nbytes} bytes too many")
    image_id = np.array(records["image_id"])
    return Predictions(image_id, np.array(content)) if names[1] == _VALUE else Predictions(image_id, kept=content)


@contextmanager
def _records(
    path: str | Path, dtype: np.dtype[Any], name: str, shape: tuple[int, ...]
) -> Iterator[Callable[[Ids, NDArray[Any]], None]]:
    record = np.dtype([("image_id", "<i8"), (name, dtype.newbyteorder("<"), shape[1:])])
    seen = [np.zeros(0, np.int64)]
    with replacing(path) as temporary, temporary.open("wb") as file:
        form = {"descr": np.lib.format.dtype_to_descr(record), "fortran_order": False, "shape": shape[:1]}
        np.lib.format.write_array_header_1_0(file, form)

        def add(image_id: Ids, content: NDArray[Any]) -> None:
            if content.shape != (len(image_id), *shape[1:]):
                raise ValueError(f"{len(image_id)} ids with values {content.shape}, expected (…, {shape[1:]})")
            rows = np.empty(len(content), record)
            rows["image_id"], rows[name] = image_id, content
            file.write(rows.tobytes())
            seen.append(np.asarray(image_id, np.int64))

        yield add
        every = np.concatenate(seen)
        if len(every) != shape[0]:
            raise ValueError(f"{len(every)} rows were written, {shape[0]} were told")
        if len(np.unique(every)) != len(every):
            raise ValueError("image_id must be unique")


def _check(image_id: Ids, shape: tuple[int, ...]) -> None:
    if np.ndim(image_id) != 1 or len(shape) not in (2, 3) or len(image_id) != shape[0]:
        raise ValueError(f"image_id {np.shape(image_id)} and probability {shape} must be [n] and [n, n_labels]")


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    step = max(1, BLOCK // max(1, int(np.prod(shape[1:]))))
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def answered(probability: Floats) -> NDArray[np.bool_]:
    """Which rows [n] of probabilities [n, n_labels] have any, not NaN alone."""
    return np.asarray(~np.isnan(probability).all(axis=1))


def known_rows(predictions: Predictions) -> Predictions:
    """The rows that have any answer, 0 for labels that the model does not know."""
    rows = answered(predictions.probability)
    return Predictions(predictions.image_id[rows], np.nan_to_num(predictions.probability[rows]))


def assemble_cube(
    predictions: Mapping[str, Predictions], image_id: Ids, *, file: Path | None = None, unknown: float = np.nan
) -> Floats:
    """Stack predictions of several models for the same images, a block of rows at a time.

    Parameters
    ----------
    file : where the cube lies as ``.npy``, mapped and not in memory; None: in memory
    unknown : what stands for labels that a model does not know

    Returns
    -------
    cube : float32 [n_images, n_models, n_labels], models in the mapping's order, rows in the order of ``image_id``

    Raises
    ------
    UserError
        When a model lacks an image or models disagree about the number of labels.
    """
    if not predictions:
        raise UserError("no predictions to stack: at least one base model is needed")
    widths = {name: p.shape[1] for name, p in predictions.items()}
    if len(set(widths.values())) > 1:
        raise UserError(f"models predict different numbers of labels: {widths}")
    models, problems = list[Floats](), []
    for name, prediction in predictions.items():
        try:
            models.append(prediction.matrix(prediction.places_of(image_id)))
        except UserError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise UserError("predictions do not cover the same images:\n  " + "\n  ".join(problems))
    shape = (len(image_id), *cube_shape(predictions))

    def block(rows: slice) -> Floats:
        part = np.stack([model[rows] for model in models], axis=1)
        return part if np.isnan(unknown) else np.nan_to_num(part, copy=False, nan=unknown)

    if file is None:
        cube = np.empty(shape, np.float32)
        for rows in _blocks(shape):
            cube[rows] = block(rows)
        return cube
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for rows in _blocks(shape):
            stream.write(block(rows).tobytes())
    return cast(Floats, np.load(file, mmap_mode="r", allow_pickle=False))


def cube_shape(predictions: Mapping[str, Predictions]) -> tuple[int, int]:
    """Models and labels of the cube of some predictions."""
    return len(predictions), next(iter(predictions.values())).shape[1]


def other_columns(fitted: Sequence[str] | None, given: Sequence[str]) -> str | None:
    """Why a cube of models ``given`` is not what was fitted; None where it is, or where the fit's are not known."""
    if fitted is None or list(fitted) == list(given):
        return None
    return f"fitted on a cube of the models {', '.join(fitted)} in this order, not of {', '.join(given)}"
