"""The kind `crop`: networks that go on learning on images cut to a box each."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from labelstack.params.second_round import CropSection
from labelstack.stages.members import Network
from labelstack.stages.second_kinds.heat_boxes import heat_boxes
from labelstack.stages.second_kinds.kind import SecondKind, Seen


class Crop(SecondKind):
    """Each network begins with that of its own fold, which knows none of the fold's rows either."""

    def start(self, fold: str) -> Path:
        """The weights of the first network of the fold."""
        return Network(self.section.after[0], fold).weights

    def seen(self) -> Seen | None:
        """About what the first networks look at, where ``heatmap`` says so."""
        section = cast(CropSection, self.section)
        return None if section.heatmap is None else heat_boxes(self.params, section)
