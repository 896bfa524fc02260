"""Prediction cubes made up at any shape, for measuring the second level where no real one is at hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstack.stacking.bench.cubes import Cube
from labelstack.support.errors import InputProblems

_MEAN_LABELS, _TOP_FREQUENCY, _TAIL = 6.0, 0.6, 1.5
_FACTORS, _ERROR_FACTORS = 12, 6


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
    seed : equal arguments give equal bytes

    Raises
    ------
    UserError
        When a number is below 1 (``n`` below 2, ``n_test`` or ``seed`` below 0).
    """
    n_test = n // 3 if n_test is None else n_test
    given = {"n": n, "n_models": n_models, "n_labels": n_labels, "n_test": n_test, "seed": seed}
    least = {"n": 2, "n_models": 1, "n_labels": 1, "n_test": 0, "seed": 0}
    wrong = [name for name, value in given.items() if value < least[name]]
    if wrong:
        raise InputProblems(
            "generated cube", [f"{name} must be at least {least[name]}, not {given[name]}" for name in wrong]
        )
    rng = np.random.default_rng(seed)
    rows = n + n_test
    latent = _latent(rng, rows, n_labels)
    frequency = _frequency(rng, n_labels)
    highest = np.sort(latent, axis=0)[::-1]
    positives = np.maximum(np.round(frequency * rows).astype(np.int64), 1)
    limit = highest[np.minimum(positives, rows - 1), np.arange(n_labels)]
    labels = (latent > limit).astype(np.float32)
    cube = np.empty((rows, n_models, n_labels), np.float32)
    quality = _quality(rng, n_models, frequency)
    stretch = np.exp(rng.permutation(np.linspace(-0.5, 0.5, n_models)))
    hard_images = _errors(rng, rows, n_labels)
    families = [_errors(rng, rows, n_labels) for _ in range(min(3, n_models))]
    for model in range(n_models):
        error = 0.5**0.5 * hard_images + 0.5 * families[model % 3] + 0.5 * _errors(rng, rows, n_labels)
        cube[:, model] = _probability(latent, error, quality[model], limit, (stretch[model], rng.normal(0, 0.4)))
    return Cube(cube[:n], labels[:n], cube[n:] if n_test else None, labels[n:] if n_test else None)


def _latent(rng: np.random.Generator, rows: int, n_labels: int) -> NDArray[np.float32]:
    """Standard normal values [rows, n_labels], correlated through factors; labels of a group most."""
    groups = max(1, n_labels // 12)
    centres = rng.normal(size=(groups, _FACTORS))
    loadings = centres[rng.integers(0, groups, n_labels)] + 0.7 * rng.normal(size=(n_labels, _FACTORS))
    loadings *= np.sqrt(0.7 / (loadings**2).sum(axis=1, keepdims=True))
    return _mixed(rng, rows, loadings.astype(np.float32), own=0.3)


def _errors(rng: np.random.Generator, rows: int, n_labels: int) -> NDArray[np.float32]:
    loadings = rng.normal(size=(n_labels, _ERROR_FACTORS))
    loadings *= np.sqrt(0.3 / (loadings**2).sum(axis=1, keepdims=True))
    return _mixed(rng, rows, loadings.astype(np.float32), own=0.7)


def _mixed(rng: np.random.Generator, rows: int, loadings: NDArray[np.float32], own: float) -> NDArray[np.float32]:
    factors = rng.standard_normal((rows, loadings.shape[1]), dtype=np.float32)
    values = rng.standard_normal((rows, len(loadings)), dtype=np.float32) * np.float32(own**0.5)
    values += np.einsum("nf,lf->nl", factors, loadings)  # not BLAS, whose last digits depend on the threads
    return values


def _frequency(rng: np.random.Generator, n_labels: int) -> NDArray[np.float64]:
    tail = np.arange(2, n_labels + 2) ** -_TAIL
    wanted = min(_MEAN_LABELS, 0.3 * n_labels)
    frequency = np.minimum(tail * wanted / tail.sum(), _TOP_FREQUENCY)
    return rng.permutation(frequency)


def _quality(rng: np.random.Generator, n_models: int, frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation of a model's view with the latent value, float64 [n_models, n_labels]."""
    model = rng.permutation(np.linspace(0.86, 0.72, n_models))[:, None]
    label = rng.normal(0, 0.05, len(frequency)) + 0.02 * np.log10(frequency / frequency.max())
    return np.clip(model + label + rng.normal(0, 0.04, (n_models, len(frequency))), 0.2, 0.97)


def _probability(
    latent: NDArray[np.float32],
    error: NDArray[np.float32],
    quality: NDArray[np.float64],
    limit: NDArray[np.float32],
    bend: tuple[float, float],
) -> NDArray[np.float32]:
    """What a model answers: Φ((ρ v − limit) / √(1 − ρ²)) for its view v, its logit stretched and shifted."""
    from scipy.special import expit, ndtr

    q = quality.astype(np.float32)
    rest = np.sqrt(1 - q**2)
    view = q * latent + rest * error
    calibrated = np.clip(ndtr((q * view - limit) / rest), 1e-6, 1 - 1e-6)
    stretch, shift = np.float32(bend[0]), np.float32(bend[1])
    bent = expit(stretch * np.log(calibrated / (1 - calibrated)) + shift)
    return np.asarray(np.clip(bent, 1e-6, 1 - 1e-6), np.float32)
