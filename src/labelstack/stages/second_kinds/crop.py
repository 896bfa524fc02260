"""The kind `crop`: networks that go on learning on images cut to a box each."""

from __future__ import annotations

from pathlib import Path

from labelstack.stages.members import Network
from labelstack.stages.second_kinds.kind import SecondKind


class Crop(SecondKind):
    """Each network begins with that of its own fold, which knows none of the fold's rows either."""

    def start(self, fold: str) -> Path:
        """The weights of the first network of the fold."""
        return Network(self.section.after[0], fold).weights
