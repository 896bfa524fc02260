"""What the bench measures: its rows by name, and the labels that its reference is fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelstack.params.messages import unknown
from labelstack.params.second_level_file import SecondLevel
from labelstack.params.stackers import STACKERS, StackerSection, XGBoostStackerSection, section_of
from labelstack.support.errors import InputProblems

BEST_MODEL, DEFAULT, REFERENCE, BASE_MODELS = "best_single", "default", "MultiOutputRegressor", "base_models"


@dataclass(frozen=True)
class Method:
    """A row to be.

    Attributes
    ----------
    kind : ``base model``, ``best base model``, ``stacker``, ``second level`` or ``reference``
    section : of stackers, and of the reference the one whose trees it has
    """

    name: str
    kind: str
    section: StackerSection | None = None


def methods(settings: SecondLevel, models: Sequence[str], members: Sequence[str] = ()) -> list[Method]:
    """What there is to measure, in the table's order; without ``members`` all but the single base models.

    Parameters
    ----------
    settings : its stackers by their names, and every kind of ours that is not among them with the kind's defaults
    models : names of the base models
    members : names to keep: ``best_single``, ``base_models`` (each of them), a base model, a stacker, a kind,
        ``default``

    Raises
    ------
    InputProblems
        On names that there are not, and where the blend names a member that there is not.
    """
    used = {section.kind for section in settings.stackers.values()}
    free = [kind for kind in STACKERS.own if kind not in {*used, *settings.stackers}]
    spare = {kind: section_of(kind)(kind=kind) for kind in free}
    stackers = spare | dict(settings.stackers)
    every = [Method(BEST_MODEL, "best base model"), *(Method(name, "base model") for name in models)]
    every += [Method(name, "stacker", section) for name, section in stackers.items()]
    every.append(Method(DEFAULT, "second level"))
    wanted = set(members) or {BEST_MODEL, *stackers, DEFAULT}
    known = [BASE_MODELS, *(method.name for method in every)]
    problems = [unknown(name, known, "method") for name in members if name not in known]
    problems += [
        f"stackers.{name}: the bench calls a row of its own so; rename it"
        for name in settings.stackers
        if name in (BEST_MODEL, DEFAULT, BASE_MODELS)
    ]
    if DEFAULT in wanted:
        there = [*settings.stackers, *models]
        problems += [
            f"blend.members: {unknown(name, there, 'member')}" for name in settings.blend.members if name not in there
        ]
    if problems:
        raise InputProblems("bench", problems)
    return [m for m in every if m.name in wanted or (m.kind == "base model" and BASE_MODELS in wanted)]


def reference(settings: SecondLevel) -> Method:
    """scikit-learn's MultiOutputRegressor(XGBRegressor) with the rounds and depth of the first XGBoost stacker."""
    sections = [s for s in settings.stackers.values() if isinstance(s, XGBoostStackerSection)]
    return Method(REFERENCE, "reference", (sections or [XGBoostStackerSection()])[0])


def distinct(models: Sequence[str], settings: SecondLevel) -> tuple[str, ...]:
    """Names of base models, with ``_model`` behind those that another row of the table has."""
    taken = {BEST_MODEL, BASE_MODELS, DEFAULT, REFERENCE, *settings.stackers, *STACKERS.own}
    names: list[str] = []
    for name in models:
        while name in taken:
            name += "_model"
        taken.add(name)
        names.append(name)
    return tuple(names)


def sample_of_labels(answers: NDArray[np.bool_], count: int) -> list[int]:
    """At most ``count`` labels, evenly spread from the rarest to the most frequent of those that are not constant."""
    positives = answers.sum(axis=0)
    varied = np.flatnonzero((positives > 0) & (positives < len(answers)))
    if count >= answers.shape[1] or not len(varied):
        return list(range(min(count, answers.shape[1])))
    ranked = varied[np.argsort(positives[varied], kind="stable")]
    count = min(count, len(ranked))
    places = (np.arange(count) + 0.5) * len(ranked) / count
    return sorted(int(label) for label in ranked[places.astype(np.int64)])
