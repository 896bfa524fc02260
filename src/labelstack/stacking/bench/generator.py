"""Prediction cubes made up at any shape, for measuring the second level where no real one is at hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from labelstack.stacking.bench.cubes import Cube
from labelstack.support.errors import InputProblems


def generate(n: int = 9000, n_models: int = 9, n_labels: int = 228, n_test: int | None = None, seed: int = 0) -> Cube:
    """Predictions with what makes stacking hard: correlated labels, a long tail, unequal and miscalibrated models.

    Every label of an image has a latent value: seven tenths of its variance from 12 factors of the image, with labels
    in groups of about 12 whose loadings are alike, the rest its own. The label is true where the value is among the
    highest of all images, as many as the label is frequent: frequency falls with the rank to the power of −1.5, from
    0.6 to a handful of images, about 5 labels an image.

    A model sees each latent value with error. How well, depends on the model (correlation 0.86 for the best, 0.72 for
    the worst), on the label (rare ones are harder) and on both. Half of the error's variance is common to all models
    (hard images), a quarter to the models of one of three families, a quarter the model's own; errors of an image go
    together over labels. From the view follows a calibrated probability; then each model stretches its logit
    (over-confident) or squeezes it (under-confident), by factors from 1.65 to 0.61, and shifts it.

    Parameters
    ----------
    n, n_test : images to fit on and to score on; ``n_test`` is n // 3 by default, 0 for none
    n_models, n_labels : of the cube; one is enough of either
    seed : 0 or more; equal arguments give equal bytes
    """
    n_test = n // 3 if n_test is None else n_test
    bounds = {"n": (n, 2), "n_models": (n_models, 1), "n_labels": (n_labels, 1), "n_test": (n_test, 0)}
    wrong = [
        f"{name} must be at least {least}, not {value}" for name, (value, least) in bounds.items() if value < least
    ]
    if wrong:
        raise InputProblems("generated cube", wrong)
    rng = np.random.default_rng(seed)
    rows = n + n_test
    centres = rng.normal(size=(max(1, n_labels // 12), 12))
    latent = _normal(
        rng, rows, centres[rng.integers(0, len(centres), n_labels)] + 0.7 * rng.normal(size=(n_labels, 12)), 0.7
    )
    tail = np.arange(2, n_labels + 2) ** -1.5
    frequency = rng.permutation(np.minimum(tail * min(6.0, 0.3 * n_labels) / tail.sum(), 0.6))
    positives = np.maximum(np.round(frequency * rows).astype(np.int64), 1)
    limit = np.sort(latent, axis=0)[::-1][np.minimum(positives, rows - 1), np.arange(n_labels)]
    labels = (latent > limit).astype(np.float32)

    def error() -> NDArray[np.float32]:
        return _normal(rng, rows, rng.normal(size=(n_labels, 6)), 0.3)

    skill = rng.permutation(np.linspace(0.86, 0.72, n_models))[:, None]
    rarity = rng.normal(0, 0.05, n_labels) + 0.02 * np.log10(frequency / frequency.max())
    quality = np.clip(skill + rarity + rng.normal(0, 0.04, (n_models, n_labels)), 0.2, 0.97).astype(np.float32)
    stretch = np.exp(rng.permutation(np.linspace(-0.5, 0.5, n_models)))
    hard_images, families = error(), [error() for _ in range(min(3, n_models))]
    cube = np.empty((rows, n_models, n_labels), np.float32)
    for model, q in enumerate(quality):
        rest = np.sqrt(1 - q**2)
        view = q * latent + rest * (0.5**0.5 * hard_images + 0.5 * families[model % 3] + 0.5 * error())
        calibrated = np.clip(ndtr((q * view - limit) / rest), 1e-6, 1 - 1e-6)
        logit, shift = np.log(calibrated / (1 - calibrated)), np.float32(rng.normal(0, 0.4))
        cube[:, model] = np.clip(expit(np.float32(stretch[model]) * logit + shift), 1e-6, 1 - 1e-6)
    return Cube(cube[:n], labels[:n], *((cube[n:], labels[n:]) if n_test else ()))


def _normal(rng: np.random.Generator, rows: int, loadings: NDArray[np.float64], common: float) -> NDArray[np.float32]:
    """Standard normal values [rows, n_labels]; a share of their variance is from factors that labels have in common."""
    scaled = (loadings * np.sqrt(common / (loadings**2).sum(axis=1, keepdims=True))).astype(np.float32)
    factors = rng.standard_normal((rows, scaled.shape[1]), dtype=np.float32)
    values = rng.standard_normal((rows, len(scaled)), dtype=np.float32) * np.float32((1 - common) ** 0.5)
    values += np.einsum("nf,lf->nl", factors, scaled)  # not BLAS, whose last digits depend on the threads
    return values
