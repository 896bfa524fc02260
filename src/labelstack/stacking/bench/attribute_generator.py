"""A prediction cube like FashionAI 2018's, made up: every row knows one label group, models are miscalibrated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labelstack.stacking.bench.cubes import Cube
from labelstack.support.errors import InputProblems
from labelstack.support.fashionai_values import VALUES

_ATTRIBUTES = {key: len(values) for key, values in VALUES.items()}
_FLOOR = 1e-6


def generate_attributes(
    n: int = 10_000,
    n_models: int = 16,
    *,
    n_test: int = 0,
    seed: int = 0,
    sizes: Sequence[int] | None = None,
) -> Cube:
    """A cube [n, n_models, n_labels] of rows that know one label group each; elsewhere it is NaN.

    A group's labels have frequencies that fall with the rank to the power of −0.7. A row's evidence is a normal value
    for each label of its group, higher for the true one. Every model sees it with noise, which is more or less by
    model, group and both; half of its variance is common to all models (hard rows), a quarter to a third of the models,
    a quarter is the model's own. From that follows what is most likely; then each model stretches its logits by a
    factor of its own, from over-confident (2.7) to under-confident (0.37), and that by half again in each group.
    One row in twenty has a label that may be true besides, the second most likely one.

    Parameters
    ----------
    n, n_test : rows to fit on and to score on; 0: no test pair
    n_models : of the cube
    seed : 0 or more; equal arguments give equal bytes
    sizes : labels of each group; None: FashionAI's eight groups with 54 labels
    """
    named = _ATTRIBUTES if sizes is None else {f"group_{i}": size for i, size in enumerate(sizes)}
    if n < 2 or n_models < 1 or n_test < 0 or min(named.values()) < 2:
        raise InputProblems("generated cube", ["expected n ≥ 2, n_models ≥ 1, n_test ≥ 0 and groups of two or more"])
    rng = np.random.default_rng(seed)
    names, rows = list(named), n + n_test
    group = np.array([name for name, size in named.items() for _ in range(size)])
    known = rng.permutation(np.resize(np.arange(len(names)), rows))
    cube = np.full((rows, n_models, len(group)), np.nan, np.float32)
    labels, maybe = np.zeros((rows, len(group)), np.float32), np.zeros((rows, len(group)), bool)
    skill = rng.permutation(np.linspace(1.25, 0.75, n_models))
    stretch = np.exp(rng.permutation(np.linspace(-1.0, 1.0, n_models)))
    for place, name in enumerate(names):
        mine, columns = np.flatnonzero(known == place), np.flatnonzero(group == name)
        k = len(columns)
        share = np.arange(1, k + 1) ** -0.7
        prior = rng.permutation(share / share.sum())
        true = rng.choice(k, len(mine), p=prior)
        labels[mine, columns[true]] = 1
        hard, families = _noise(rng, len(mine), k), [_noise(rng, len(mine), k) for _ in range(min(3, n_models))]
        likely = np.zeros((len(mine), k))
        for model in range(n_models):
            distance = 1.9 * skill[model] * np.exp(rng.normal(0, 0.12))
            noise = 0.5 * families[model % 3 % len(families)] + 0.5 * _noise(rng, len(mine), k) + 0.5**0.5 * hard
            view = distance * np.eye(k)[true] + noise
            logits = distance * view + np.log(prior)
            likely += logits
            heat = stretch[model] * np.exp(rng.normal(0, 0.5 * abs(np.log(stretch[model]))))
            raised = np.exp(heat * (logits - logits.max(axis=1, keepdims=True)))
            p = np.maximum(raised / raised.sum(axis=1, keepdims=True), _FLOOR)
            cube[mine[:, None], model, columns] = p / p.sum(axis=1, keepdims=True)
        likely[np.arange(len(mine)), true] = -np.inf
        also = rng.random(len(mine)) < 0.05
        maybe[mine[also], columns[likely[also].argmax(axis=1)]] = True
    knows = np.array(names)[known]
    first, then = slice(0, n), slice(n, rows)
    test = {"test_cube": cube[then], "test_labels": labels[then], "test_known": knows[then], "test_maybe": maybe[then]}
    return Cube(
        cube[first],
        labels[first],
        groups=tuple(group.tolist()),
        known=knows[first],
        maybe=maybe[first],
        **(test if n_test else {}),  # type: ignore[arg-type]
    )


def _noise(rng: np.random.Generator, rows: int, k: int) -> NDArray[np.float64]:
    return rng.standard_normal((rows, k))
