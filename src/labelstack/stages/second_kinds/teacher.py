"""The teacher of students: the mean of base models, on rows of train by the networks that did not learn from them."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.params.students import TaughtSection
from labelstack.params.task import SINGLE
from labelstack.predictions import Predictions, read_predictions
from labelstack.stacking.blending import blend, likelihood_weights
from labelstack.stacking.stackers.averaging import mean_of
from labelstack.stages.members import Network, base_model
from labelstack.stages.rows import Rows
from labelstack.stages.second_kinds.kind import SecondKind
from labelstack.support.errors import UserError

Floats = NDArray[np.float32]


class Taught(SecondKind):
    """What students have in common: the teacher, whose weights a fold's own rows have no say in.

    Its word on the rows of the other folds comes from networks that saw the fold all the same, so what a student says
    of the fold is flattered.
    """

    @property
    def taught(self) -> TaughtSection:
        """The section."""
        return cast(TaughtSection, self.section)

    @property
    def exclusive(self) -> bool:
        """Whether every image has exactly one label."""
        return self.params.dataset.task == SINGLE

    def weights(self, rows: Rows) -> dict[str, float]:
        """Of each base model in the teacher; those of ``teacher: fitted`` have the least log loss on the rows."""
        names = self.taught.after
        if self.taught.teacher == "equal" or len(names) == 1:
            return dict.fromkeys(names, 1 / len(names))
        return likelihood_weights(self._of_train(rows), rows.Y, exclusive=self.exclusive)

    def teacher(self, rows: Rows) -> Floats:
        """Probabilities float32 [n, n_labels] of rows of train, out of fold.

        Raises
        ------
        UserError
            When a base model did not predict a row, or rows know one label group each.
        """
        if rows.known is not None:
            raise UserError(
                f"second_round: kind {self.section.kind} teaches all labels of a row, and rows of {rows.split} know "
                "one label group each: leave it out"
            )
        return blend(self._of_train(rows), self.weights(rows), exclusive=self.exclusive)

    def teacher_of_test(self, rows: Rows) -> Predictions:
        """Of all test rows, by the mean of all networks of every base model, with the weights for ``rows`` of train."""
        parts = {
            name: [read_predictions(one.predictions / "test.npy") for one in self._networks(name)]
            for name in self.taught.after
        }
        row_id = parts[self.taught.after[0]][0].image_id
        means = {name: mean_of([one.rows_of(row_id) for one in of_model]) for name, of_model in parts.items()}
        return Predictions(row_id, blend(means, self.weights(rows), exclusive=self.exclusive))

    def _of_train(self, rows: Rows) -> dict[str, Floats]:
        return {name: _out_of_fold(self.params, name).rows_of(rows.row_id) for name in self.taught.after}

    def _networks(self, name: str) -> list[Network]:
        return base_model(name, self.params.networks).networks


def _out_of_fold(params: Params, name: str) -> Predictions:
    parts = [read_predictions(one.predictions / "oof.npy") for one in base_model(name, params.networks).networks]
    return Predictions(
        np.concatenate([part.image_id for part in parts]), np.concatenate([part.probability for part in parts])
    )
