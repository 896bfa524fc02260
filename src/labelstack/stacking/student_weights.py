"""Weights of students in a blend, whose out-of-fold predictions are no measure, chosen on rows that nothing saw."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import ArrayLike

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.stacking.blending import fit_weights

_OTHERS = "the blend of all others"


def student_weights(
    others: ArrayLike,
    students: Mapping[str, ArrayLike],
    Y: ArrayLike,
    settings: BlendSection,
    metric: MetricSection,
    exclusive: bool = False,
) -> dict[str, float]:
    """Weights of students beside the blend of all other members, which takes what is left of 1.

    By greedy selection where ``blend.method`` is that, else by the least log loss: rows of no fold have no thresholds
    of their own, and equal weights would not ask whether a student is worth one.

    Parameters
    ----------
    others : float [n, n_labels], the blend of all other members
    students : name → float [n, n_labels] in 0 … 1
    Y : 0/1 [n, n_labels]
    """
    method = "greedy" if settings.method == "greedy" else "log_loss"
    found = fit_weights(
        {_OTHERS: others, **students}, Y, settings.model_copy(update={"method": method}), metric, exclusive=exclusive
    )
    return {name: found[name] for name in students}
