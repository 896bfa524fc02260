"""The kind `student`: one network that learns what several say, beside the labels."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import special

from labelstack.params.students import StudentSection
from labelstack.stages.rows import Rows
from labelstack.stages.second_kinds.teacher import Taught

_LEAST = 1e-6  # of a probability whose logit is taken


class Student(Taught):
    """Targets of rows of train are made of labels and the teacher's out-of-fold probabilities."""

    def targets(self, rows: Rows) -> NDArray[np.float32]:
        """Float32 [n, n_labels], see ``greater_targets`` and ``mixed_targets``."""
        section = cast(StudentSection, self.section)
        P = self.teacher(rows)
        if section.target == "max":
            return greater_targets(rows.Y, P, section.scale, exclusive=self.exclusive)
        return mixed_targets(rows.Y, P, section.hard, section.temperature, exclusive=self.exclusive)


def greater_targets(
    Y: NDArray[np.bool_], P: NDArray[np.float32], scale: float, *, exclusive: bool = False
) -> NDArray[np.float32]:
    """The greater of label and ``scale`` · P, as the 9th of iMet 2019 taught with 0.7; rows of ``exclusive`` sum to 1.

    Parameters
    ----------
    Y, P : labels bool and probabilities [n, n_labels]
    """
    greater = np.maximum(Y, np.float32(scale) * P).astype(np.float32)
    return greater / greater.sum(axis=1, keepdims=True) if exclusive else greater


def mixed_targets(
    Y: NDArray[np.bool_], P: NDArray[np.float32], hard: float, temperature: float, *, exclusive: bool = False
) -> NDArray[np.float32]:
    """``hard`` · labels + (1 − ``hard``) · P at a temperature (Hinton, Vinyals and Dean 2015, arXiv:1503.02531).

    Logits are divided by the temperature: of each label, or, of labels that are ``exclusive``, of the softmax. The
    student's own logits are not, so above 1 it is as soft as its targets.
    """
    kept = np.clip(P.astype(np.float64), _LEAST, 1 - _LEAST)
    if exclusive:
        soft = special.softmax(np.log(kept) / temperature, axis=1)
    else:
        soft = special.expit(special.logit(kept) / temperature)
    return (hard * Y + (1 - hard) * soft).astype(np.float32)
