"""What a `crop` sees of each image: the box that a file of the data set gives it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from labelstack.formats.box_file import read_boxes
from labelstack.params import Params
from labelstack.params.second_round import CropSection, SecondRoundSection
from labelstack.support.box import Boxes

if TYPE_CHECKING:
    import pandas as pd


def boxes(params: Params, section: SecondRoundSection, manifests: Mapping[str, pd.DataFrame]) -> dict[str, Boxes]:
    """Boxes by split and row id, the margin added; raise ``InputProblems`` with all faults of the file."""
    crop = cast(CropSection, section)
    if crop.boxes is None:  # they come when the first networks are trained
        return {}
    found = read_boxes(Path(params.dataset.root) / crop.boxes, crop.units, manifests)
    return {
        split: {row: box.widened(crop.margin) for row, box in of_split.items()} for split, of_split in found.items()
    }
