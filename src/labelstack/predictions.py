"""Predictions on disk (.npz without pickle) and the cube that stackers learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelstack.support.archive import DAMAGED_ARCHIVE
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing


@dataclass(frozen=True)
class Predictions:
    """Probabilities of one model for some images.

    Attributes
    ----------
    image_id : int64 [n], unique
    probability : float32 [n, n_labels], each in 0…1; of nested predictions [n, k, n_labels]. NaN: a label that the
        model does not know, or a row that it was not shown, since it knows another label group
    """

    image_id: NDArray[np.int64]
    probability: NDArray[np.float32]

    def rows_of(self, image_id: NDArray[np.int64]) -> NDArray[np.float32]:
        """Probabilities of the given ids in their order; raise ``UserError`` when one is absent."""
        order = np.argsort(self.image_id)
        place = np.searchsorted(self.image_id, image_id, sorter=order)
        rows = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(image_id), dtype=np.int64)
        missing = np.ones(len(image_id), bool) if not len(order) else self.image_id[rows] != image_id
        if missing.any():
            ids = ", ".join(str(i) for i in np.asarray(image_id)[missing][:5])
            raise UserError(f"{int(missing.sum())} of {len(image_id)} images have no prediction (first ids: {ids})")
        return self.probability[rows]


def write_predictions(
    path: str | Path, image_id: NDArray[np.int64], probability: NDArray[np.float32], *, unknown: bool = False
) -> None:
    """Write predictions; equal content gives equal bytes. Raise ``ValueError`` on shapes that do not fit or NaN.

    ``unknown`` lets NaN through: labels of groups that a model does not know.
    """
    image_id = np.asarray(image_id, dtype=np.int64)
    probability = np.asarray(probability, dtype=np.float32)
    if image_id.ndim != 1 or probability.ndim not in (2, 3) or len(image_id) != len(probability):
        raise ValueError(f"image_id {image_id.shape} and probability {probability.shape} must be [n] and [n, n_labels]")
    if len(np.unique(image_id)) != len(image_id):
        raise ValueError("image_id must be unique")
    if not np.isfinite(probability[~np.isnan(probability)] if unknown else probability).all():
        raise ValueError("probability holds NaN or infinity")
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, image_id=image_id, probability=probability)


def read_predictions(path: str | Path) -> Predictions:
    """Read what ``write_predictions`` wrote; raise ``UserError`` when the file is absent or something else."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return Predictions(content["image_id"].astype(np.int64), content["probability"].astype(np.float32))
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (*DAMAGED_ARCHIVE, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a predictions file with keys image_id and probability ({error})") from None


def answered(probability: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows [n] of probabilities [n, n_labels] have any, not NaN alone."""
    return np.asarray(~np.isnan(probability).all(axis=1))


def known_rows(predictions: Predictions) -> Predictions:
    """The rows that have any answer, 0 for labels that the model does not know."""
    rows = answered(predictions.probability)
    return Predictions(predictions.image_id[rows], np.nan_to_num(predictions.probability[rows]))


def assemble_cube(predictions: Mapping[str, Predictions], image_id: NDArray[np.int64]) -> NDArray[np.float32]:
    """Stack predictions of several models for the same images.

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
    widths = {name: p.probability.shape[1] for name, p in predictions.items()}
    if len(set(widths.values())) > 1:
        raise UserError(f"models predict different numbers of labels: {widths}")
    rows, problems = [], []
    for name, prediction in predictions.items():
        try:
            rows.append(prediction.rows_of(image_id))
        except UserError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise UserError("predictions do not cover the same images:\n  " + "\n  ".join(problems))
    return np.stack(rows, axis=1)


def other_columns(fitted: Sequence[str] | None, given: Sequence[str]) -> str | None:
    """Why a cube of models ``given`` is not what was fitted; None where it is, or where the fit's are not known."""
    if fitted is None or list(fitted) == list(given):
        return None
    return f"fitted on a cube of the models {', '.join(fitted)} in this order, not of {', '.join(given)}"
