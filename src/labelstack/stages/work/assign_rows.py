"""Who learns from which row and predicts which: folds, hold-outs and audit rows, assigned once for all stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.formats.manifest import read_manifest
from labelstack.params import Params
from labelstack.params.folds import BlocksSection
from labelstack.params.region_rows import RegionRowsSection
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.holdouts import hold_out
from labelstack.stacking.rare_labels import frequent_labels
from labelstack.stacking.rarest_first import rarest_first_folds
from labelstack.stacking.shares import choose_share
from labelstack.stacking.sources import blocks
from labelstack.stages import paths
from labelstack.stages.fold_files import Asked, Fitted, Part, write_asked, write_audit, write_fitted, write_stacking
from labelstack.stages.members import ALL
from labelstack.stages.rows import Rows, read_rows, rows_there, stacking_split
from labelstack.support.errors import UserError

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Assigned:
    """How many rows each part has.

    Attributes
    ----------
    stacking : rows that the second level learns from
    folds : int64 [k], their number in each fold
    sources : of what belongs together among them; None: every row stands alone
    audit : rows that nothing learns from or chooses by
    rare : rows in no fold, since they have no label but rare ones
    """

    stacking: int
    folds: Ids
    sources: int | None
    audit: int
    rare: int = 0


def compute(params: Params) -> Assigned:
    """Write data/folds: what every network learns from and predicts, the folds of the second level, the audit rows.

    Raises
    ------
    UserError
        When a split has no image, or there are fewer rows (or sources) than folds.
    """
    if (section := params.rows_of_regions) is not None:
        return _of_regions(params, section)
    train, audit = _set_aside(params, _with_sources(params, read_rows("train")))
    asked = _asked_of_test()
    if params.by_fold:
        stacking = train = _frequent(params, whole := train)
        folds = _folds(params, train)
        for fold in range(params.folds.k):
            own = folds == fold
            write_fitted(str(fold), _by_fold(params, train, own))
            write_asked(str(fold), Asked(Part.of(train.where(own)), audit, asked))
    else:
        whole = _with_sources(params, read_rows(stacking_split(params)))
        stacking = _frequent(params, whole)
        folds = _folds(params, stacking)
        write_fitted(ALL, _fitted(params, train))
        write_asked(ALL, Asked(Part.of(stacking), audit, asked))
    write_stacking(stacking.row_id, folds)
    write_audit(audit)
    sources = None if stacking.source is None else len(np.unique(stacking.source))
    sizes = np.bincount(folds, minlength=params.folds.k)
    aside = 0 if audit is None else len(audit.row_id)
    return Assigned(len(stacking), sizes, sources, aside, len(whole) - len(stacking))


def _of_regions(params: Params, section: RegionRowsSection) -> Assigned:
    """The same where regions are the rows: networks learn from true ones of other folds' photos, and predict the
    predicted ones of their own; folds are those of the photos, as their segmenters had them."""
    train = read_rows("train")
    train = replace(train, source=_beside(train, "group").astype(str))
    folds, predicted = _beside(train, "fold").astype(np.int64), _beside(train, "part") == "predicted"
    learned = ~predicted
    if section.learn_from == "with_attributes":
        learned &= train.Y.any(axis=1)
    validation = rows_there("validation")
    audit = Part.of(validation) if len(validation) else None
    problems = []
    for fold in range(params.folds.k):
        own = folds == fold
        if not (own & predicted).any():
            problems.append(f"fold {fold}: none of its photos has a predicted region that is a true one")
            continue
        write_fitted(str(fold), _by_fold(params, train.where(learned), own[learned]))
        write_asked(str(fold), Asked(Part.of(train.where(own & predicted)), audit))
    if problems:
        what = "train the segmenters longer, or lower folds.k"
        raise UserError("\n".join(f"{paths.FOLDS}: {problem}: {what}" for problem in problems))
    write_stacking(train.row_id[predicted], folds[predicted])
    write_audit(audit)
    sizes = np.bincount(folds[predicted], minlength=params.folds.k)
    sources = np.unique(_beside(train, "group").astype(str)[predicted])
    return Assigned(int(predicted.sum()), sizes, len(sources), 0 if audit is None else len(audit.row_id))


def _set_aside(params: Params, train: Rows) -> tuple[Rows, Part | None]:
    """Rows of train to learn from, and those that nothing learns from or chooses by.

    Networks that have a fold of train each leave a validation split that is given over: that is the audit then.
    """
    share = params.dataset.audit
    if params.by_fold and len(validation := rows_there("validation")):
        if share:
            raise UserError(
                f"dataset.audit: is {share:g}, and the {len(validation):,} validation images are the audit already "
                "(base_models has a network a fold, so they are not needed for stacking): set it to 0"
            )
        return train, Part.of(validation)
    if not share:
        return train, None
    audited = choose_share(train.Y, share, params.seed, train.source)
    return train.where(~audited), Part.of(train.where(audited))


def _fitted(params: Params, rows: Rows) -> Fitted:
    """What is learned from and what is held out for early stopping: the same part for every model (by ``seed``)."""
    training = params.training
    held = hold_out(len(rows), training.holdout, training.holdout_max, params.seed, rows.source)
    return Fitted(rows.row_id[~held], rows.row_id[held])


def _by_fold(params: Params, train: Rows, own: NDArray[np.bool_]) -> Fitted:
    """The same of the other folds' rows; ``monitor: fold`` stops by the fold itself, and learns from all others."""
    if params.training.monitor == "fold":
        return Fitted(train.row_id[~own], train.row_id[own])
    return _fitted(params, train.where(~own))


def _folds(params: Params, rows: Rows) -> Ids:
    """The folds of the second level's rows: as they are given, or dealt."""
    if params.folds.column is not None:
        return _given(params, rows)
    if params.folds.method == "rarest_first":
        return _rarest_first(params, rows)
    Y = rows.Y[:, frequent_labels(rows.Y, params.folds.rare)] if params.folds.rare else rows.Y
    return assign_folds(Y, params.folds.k, params.folds.seed, source=rows.source)


def _frequent(params: Params, rows: Rows) -> Rows:
    """The rows that get a fold: with ``folds.rare`` those that have a more frequent label."""
    if not params.folds.rare:
        return rows
    kept = np.asarray(rows.Y[:, frequent_labels(rows.Y, params.folds.rare)].any(axis=1), np.bool_)
    if not kept.any():
        raise UserError(
            f"folds.rare: no label has more than {params.folds.rare} of the {len(rows):,} {rows.split} images: lower it"
        )
    return rows.where(kept)


def _given(params: Params, rows: Rows) -> Ids:
    folds, k = _beside(rows, "fold").astype(np.int64), params.folds.k
    wrong = (folds < 0) | (folds >= k)
    if wrong.any():
        ids = ", ".join(str(i) for i in rows.row_id[wrong][:5])
        raise UserError(
            f"folds.column: {params.folds.column} gives {int(wrong.sum())} of {len(rows)} {rows.split} images no fold "
            f"from 0 to {k - 1} (folds.k is {k}); first ids: {ids}"
        )
    if empty := sorted(set(range(k)) - set(folds.tolist())):
        raise UserError(f"folds.column: {params.folds.column} puts no image into fold(s) {empty}; folds.k is {k}")
    return folds


def _rarest_first(params: Params, rows: Rows) -> Ids:
    """Dealt over all images of the split, downloaded or not, in the order of its file, as the rule wants it."""
    manifest = read_manifest(paths.manifest(rows.split))
    folds = rarest_first_folds(manifest["label_id"].tolist(), params.folds.k, params.folds.seed)
    return folds[np.isin(manifest["image_id"], rows.row_id)]


def _with_sources(params: Params, rows: Rows) -> Rows:
    """The rows with what belongs together, as ``folds.group_by`` says."""
    by = params.folds.group_by
    if by is None:
        return rows
    if isinstance(by, BlocksSection):
        return replace(rows, source=blocks(len(rows), by.blocks).astype(str))
    group = _beside(rows, "group").astype(str)
    alone = np.char.add("\n", np.arange(len(rows)).astype(str))  # no cell of a file holds a line end
    return replace(rows, source=np.where(group == "", alone, group))


def _asked_of_test() -> Part | None:
    """Test rows and the label group that each asks for; None where they ask for all."""
    import pandas as pd

    table = pd.read_parquet(paths.BESIDE)
    if "known" not in table:
        return None
    test = table[table["split"] == "test"]
    return Part("test", test["row_id"].to_numpy(np.int64), test["known"].to_numpy(np.str_))


def _beside(rows: Rows, column: str) -> NDArray[Any]:
    """A column of what the data set says of rows, in their order."""
    import pandas as pd

    table = pd.read_parquet(paths.BESIDE)
    table = table[table["split"] == rows.split].set_index("row_id")
    return np.asarray(table.loc[rows.row_id, column])
