"""What a kind of second-round model is asked for; params/second_round.py has the table of kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelstack.images.heat_table import HeatMaps
from labelstack.params import Params
from labelstack.params.second_round import SecondRoundSection
from labelstack.stages.rows import MoreRows, Rows
from labelstack.support.box import Boxes

if TYPE_CHECKING:
    import pandas as pd

    from labelstack.stages.members import Network
    from labelstack.stages.trained import Trained


class Seen(NamedTuple):
    """Which part of each image is seen, by split and row id, and where networks look in rows of the second level."""

    boxes: Mapping[str, Boxes]
    heat: HeatMaps


View = Callable[[Params, SecondRoundSection, Mapping[str, "pd.DataFrame"]], Mapping[str, Boxes]]


class SecondKind:
    """What the networks of a second-round model learn from, and what they begin with; ``work`` of a section names one.

    Parameters
    ----------
    params : all of them
    section : that of the model
    """

    def __init__(self, params: Params, section: SecondRoundSection) -> None:
        self.params, self.section = params, section

    def start(self, fold: str) -> Path | None:
        """The weights that the network of a fold begins with; None: fresh ones.

        They may know no row of the fold, or its scores are worth nothing.
        """
        return None

    def seen(self) -> Seen | None:
        """Which part of each image is seen, where the networks it begins with say so.

        None: what the stage `views` wrote.
        """
        return None

    def targets(self, rows: Rows) -> NDArray[np.float32] | None:
        """What is learned of rows of train, float32 [n, n_labels], where a kind knows better than base models do.

        NaN is a label that is not known and counts nothing. None: what base models learn of them, their labels.
        """
        return None

    def made(self, own: Network, rows: Rows) -> Trained | None:
        """Write the network of a fold from its rows, where it is not trained; None: it is."""
        return None

    def more(self, rows: Rows) -> MoreRows | None:
        """Test rows to learn from besides rows of train; None: there are none."""
        return None

    def numbers(self, rows: Rows) -> dict[str, float]:
        """What is worth knowing of its targets, for the network's MLflow run."""
        return {}


def whole(params: Params, section: SecondRoundSection, manifests: Mapping[str, pd.DataFrame]) -> dict[str, Boxes]:
    """The view of a kind that sees whole images."""
    return {}


def kind_of(params: Params, section: SecondRoundSection) -> SecondKind:
    """What does the work of a section."""
    made: SecondKind = _object(section.work)(params, section)
    return made


def view_of(section: SecondRoundSection) -> View:
    """The function that says which part of each image is seen: boxes of rows, by split and row id."""
    found: View = _object(section.view)
    return found


def _object(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
