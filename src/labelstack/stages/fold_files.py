"""Which rows every network learns from and predicts, and the folds of the second level: files of the stage `split`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.stages import paths
from labelstack.stages.rows import Rows, Split, named_rows, stacking_split
from labelstack.support.errors import UserError
from labelstack.support.storage import replacing

if TYPE_CHECKING:
    import pandas as pd

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Stacking:
    """What the second level learns from, and everything is scored on.

    Attributes
    ----------
    rows : in the manifest's order
    folds : int64 [n], shared by stackers, blend and decision rules; where base models have a network a fold, theirs too
    """

    rows: Rows
    folds: Ids


@dataclass(frozen=True)
class Fitted:
    """Rows of train by what the networks of one fold do with them: int64 row ids."""

    fit: Ids
    holdout: Ids


@dataclass(frozen=True)
class Part:
    """Some rows of one split, int64 row ids; ``known``: the label group that each knows, where that is one alone."""

    split: Split
    row_id: Ids
    known: NDArray[np.str_] | None = None

    @classmethod
    def of(cls, rows: Rows) -> Part:
        """These rows."""
        return cls(rows.split, rows.row_id, rows.known)

    def of_groups(self, groups: Sequence[str]) -> Ids:
        """Row ids of those that know one of these label groups; without groups all."""
        return self.row_id if self.known is None or not groups else self.row_id[np.isin(self.known, groups)]


@dataclass(frozen=True)
class Asked:
    """What the networks of one fold predict besides the test split: rows for the second level, and audit rows.

    ``test`` is there where test rows ask for one label group each: those that are downloaded and others.
    """

    oof: Part
    audit: Part | None = None
    test: Part | None = None

    @property
    def parts(self) -> list[Part]:
        """Rows for the second level and audit rows."""
        return [self.oof] if self.audit is None else [self.oof, self.audit]


def write_table(path: Path, columns: dict[str, Any]) -> None:
    """Write a table; equal content gives equal bytes."""
    import pandas as pd

    with replacing(path) as temporary:
        pd.DataFrame(columns).to_parquet(temporary, index=False)


def write_fitted(fold: str, rows: Fitted) -> None:
    """Write what the networks of a fold learn from."""
    part = ["fit"] * len(rows.fit) + ["holdout"] * len(rows.holdout)
    write_table(paths.fit_rows(fold), {"row_id": np.concatenate([rows.fit, rows.holdout]), "part": part})


def read_fitted(fold: str) -> Fitted:
    """Read what ``write_fitted`` wrote; raise ``UserError`` when it is not there."""
    table = _read(paths.fit_rows(fold))
    row_id, part = table["row_id"].to_numpy(np.int64), table["part"]
    return Fitted(row_id[part == "fit"], row_id[part == "holdout"])


def write_asked(fold: str, rows: Asked) -> None:
    """Write what the networks of a fold predict."""
    parts = {name: part for name in ("oof", "audit", "test") if (part := getattr(rows, name)) is not None}
    columns: dict[str, Any] = {
        "split": [part.split for part in parts.values() for _ in range(len(part.row_id))],
        "row_id": np.concatenate([part.row_id for part in parts.values()]),
        "part": [name for name, part in parts.items() for _ in range(len(part.row_id))],
    }
    if rows.oof.known is not None:
        columns["known"] = np.concatenate([part.known for part in parts.values()])
    write_table(paths.predicted_rows(fold), columns)


def read_asked(fold: str) -> Asked:
    """Read what ``write_asked`` wrote; raise ``UserError`` when it is not there."""
    table = _read(paths.predicted_rows(fold))
    parts = {
        str(name): Part(
            rows["split"].iloc[0],
            rows["row_id"].to_numpy(np.int64),
            rows["known"].to_numpy(np.str_) if "known" in rows else None,
        )
        for name, rows in table.groupby("part")
    }
    return Asked(parts["oof"], parts.get("audit"), parts.get("test"))


def write_stacking(row_id: Ids, folds: Ids) -> None:
    """Write the folds of the rows that the second level learns from."""
    write_table(paths.STACKING, {"row_id": row_id, "fold": folds})


def read_stacking(params: Params) -> Stacking:
    """The rows that the second level learns from, and their folds; raise ``UserError`` when they are not there."""
    table = _read(paths.STACKING)
    row_id, folds = table["row_id"].to_numpy(np.int64), table["fold"].to_numpy(np.int64)
    rows, order = named_rows(stacking_split(params), row_id), np.argsort(row_id)
    place = order[np.searchsorted(row_id, rows.row_id, sorter=order)]
    return Stacking(rows, folds[place])


def stacking_rows(params: Params) -> Rows:
    """The rows of ``read_stacking`` alone."""
    return read_stacking(params).rows


def write_audit(rows: Part | None) -> None:
    """Write which rows nothing learns from or chooses by; without rows the table is empty."""
    part = Part("train", np.zeros(0, np.int64)) if rows is None else rows
    write_table(paths.AUDIT, {"split": np.full(len(part.row_id), part.split, object), "row_id": part.row_id})


def read_audit() -> Rows | None:
    """Rows that nothing learns from or chooses by; None where there are none."""
    table = _read(paths.AUDIT)
    return named_rows(table["split"].iloc[0], table["row_id"].to_numpy(np.int64)) if len(table) else None


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found. Run `dvc repro` (or `labelstack stage split`) first.") from None
