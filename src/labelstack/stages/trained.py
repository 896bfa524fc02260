"""What training of a network gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trained:
    """What training gave.

    Attributes
    ----------
    history : DataFrame, a row for each epoch
    best_epoch : whose weights were kept
    weights_digest : of what was learnt, not of the file's bytes, which hold dates
    """

    history: pd.DataFrame
    best_epoch: int
    weights_digest: str
