"""A validation split that no file names, drawn from train."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelstack.formats.format import CompetitionData, Draw
from labelstack.formats.manifest import label_matrix
from labelstack.formats.shared import shared_counts
from labelstack.support.errors import InputProblems, UserError

_DRAW = 1  # its number, as that of a table's validation split


def with_validation(
    data: CompetitionData, share: float, draw: Draw, source: NDArray[np.str_] | None, folds: int
) -> tuple[CompetitionData, NDArray[np.bool_]]:
    """The data set with a share of its train images as validation, in their order; and which these are, bool [n_train].

    Parameters
    ----------
    share : ``dataset.validation``, above 0
    source : str [n_train], what belongs together and is drawn together; None: every image stands alone
    folds : so many folds the validation images will be dealt to, at least one to each

    Raises
    ------
    UserError
        When there is a validation split, or too little to draw one of.
    """
    if "validation" in data.manifests:
        raise UserError(
            f"dataset.validation: is {share:g}, and the data set has a validation split of "
            f"{len(data.manifests['validation']):,} images: set it to 0"
        )
    whole = data.manifests["train"]
    Y = label_matrix(whole["label_id"].tolist(), data.labels["label_id"].to_numpy()).view(np.bool_)
    chosen = draw(Y, share, _DRAW, source)
    if told := _too_few(Y, chosen, share, folds):
        raise InputProblems("dataset.validation", told)
    manifests = {
        "train": whole[~chosen].reset_index(drop=True),
        "validation": whole[chosen].reset_index(drop=True),
        **{split: manifest for split, manifest in data.manifests.items() if split != "train"},
    }
    columns = {
        name: {column: _where(cells, side) for column, cells in data.columns.get("train", {}).items()}
        for name, side in (("train", ~chosen), ("validation", chosen))
    }
    counted = {"train": Y[~chosen].sum(axis=0), "validation": Y[chosen].sum(axis=0)}
    labels = data.labels.assign(**{f"n_{split}": n.astype(np.int64) for split, n in counted.items()})
    counts = data.counts | {
        "images": {split: len(manifest) for split, manifest in manifests.items()},
        "labels_per_image": {split: round(int(n.sum()) / len(manifests[split]), 4) for split, n in counted.items()},
        "labels_without_train_image": int((counted["train"] == 0).sum()),
        "labels_without_validation_image": int((counted["validation"] == 0).sum()),
        "drawn": ["validation"],
        "shared": shared_counts(manifests),
    }
    return replace(data, manifests=manifests, labels=labels, counts=counts, columns=columns), chosen


def _too_few(Y: NDArray[np.bool_], chosen: NDArray[np.bool_], share: float, folds: int) -> list[str]:
    told, count = [], int(chosen.sum())
    if count < folds:
        told.append(
            f"expected at least {folds} images, one for each fold (folds.k in params.yaml), drew {count} of "
            f"{len(chosen):,} (a share of {share:g}): raise it, or lower folds.k"
        )
    for split, side in (("validation", chosen), ("train", ~chosen)):
        if not Y[side].any():
            told.append(f"{split}: expected at least one label, found none on {side.sum():,} images; label some more")
    return told


def _where(cells: object, side: NDArray[np.bool_]) -> list[object]:
    values: list[object] = pd.Series(cells, dtype=object)[side].tolist()
    return values
