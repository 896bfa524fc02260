"""Calibration against scikit-learn, on known distortions and on awkward input."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from labelstack.stacking.deciding.calibration import METHODS, Calibration, Method, fit_calibration

Rows = tuple[NDArray[np.float32], NDArray[np.float32]]


def distorted(n: int, n_labels: int, slope: float, offset: NDArray[np.float64] | float, seed: int = 0) -> Rows:
    """Answers, and probabilities whose logits have to be multiplied by ``slope`` and moved by ``offset`` to be true."""
    rng = np.random.default_rng(seed)
    score = rng.normal(-1, 2, (n, n_labels))
    Y = rng.random((n, n_labels)) < expit(slope * score + offset)
    return Y.astype(np.float32), expit(score).astype(np.float32)


def log_loss(Y: NDArray[np.float32], P: NDArray[np.float32]) -> float:
    p = np.clip(P, 1e-7, 1 - 1e-7)
    return float(-(Y * np.log(p) + (1 - Y) * np.log(1 - p)).mean())


def test_platt_of_one_label_is_logistic_regression() -> None:
    Y, P = distorted(900, 1, 0.5, 0.7)
    oracle = LogisticRegression(C=1e6).fit(logit(P.astype(np.float64)), Y[:, 0].astype(int))
    wanted = oracle.predict_proba(logit(P.astype(np.float64)))[:, [1]]
    np.testing.assert_allclose(fit_calibration(Y, P, "platt")(P), wanted, atol=0.005)


@pytest.mark.parametrize("n", [800, 6000])  # 6000: neighbouring images are pooled
def test_platt_finds_slope_and_offsets(n: int) -> None:
    offset = np.array([-1.5, 0, 0, 1.5])
    fitted = fit_calibration(*distorted(n, 4, 0.5, offset), "platt")
    np.testing.assert_allclose(fitted.coefficients[:2], 0.5, atol=0.06)
    np.testing.assert_allclose(fitted.coefficients[2], offset, atol=0.3)


def test_offsets_that_are_noise_vanish() -> None:
    Y, P = distorted(400, 50, 1.0, 0.0)
    fitted = fit_calibration(Y, P, "platt").coefficients
    assert np.abs(fitted[2]).max() < 0.2  # each label alone would be off by up to 0.4
    assert fitted[0, 0] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("method", ["platt", "isotonic", "beta"])
def test_new_images_become_better_calibrated(method: Method) -> None:
    Y, P = distorted(1500, 6, 0.4, np.linspace(-1, 1, 6), seed=0)
    new_Y, new_P = distorted(1500, 6, 0.4, np.linspace(-1, 1, 6), seed=1)
    fitted = fit_calibration(Y, P, method)
    out = fitted(new_P)
    assert out.dtype == np.float32
    assert log_loss(new_Y, out) < log_loss(new_Y, new_P) - 0.05
    np.testing.assert_allclose(fitted(P).mean(axis=0), Y.mean(axis=0), atol=0.03)


@pytest.mark.parametrize("n", [300, 5000])
def test_beta_bends_what_platt_cannot(n: int) -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, (n, 3))
    Y = (rng.random(p.shape) < expit(2 * np.log(p) - 0.3 * np.log1p(-p) + 0.5)).astype(np.float32)
    P = p.astype(np.float32)
    platt, beta = fit_calibration(Y, P, "platt"), fit_calibration(Y, P, "beta")
    assert log_loss(Y, beta(P)) < log_loss(Y, platt(P)) - 0.001
    np.testing.assert_allclose(beta(P).mean(axis=0), Y.mean(axis=0), atol=0.02)


def test_isotonic_of_one_label_is_scikit_learns() -> None:
    Y, P = distorted(500, 1, 0.5, 0.7)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(P[:, 0], Y[:, 0])
    np.testing.assert_allclose(fit_calibration(Y, P, "isotonic")(P)[:, 0], oracle.predict(P[:, 0]), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_higher_probability_never_becomes_a_lower_one(method: Method) -> None:
    rng = np.random.default_rng(3)
    Y, P = (rng.random((200, 4)) < 0.2).astype(np.float32), rng.random((200, 4)).astype(np.float32)  # no relation
    fitted = fit_calibration(Y, P, method)
    rising = np.repeat(np.linspace(0, 1, 101, dtype=np.float32)[:, None], 4, axis=1)
    assert (np.diff(fitted(rising), axis=0) >= -1e-6).all()


@pytest.mark.parametrize("method", METHODS)
def test_json_keeps_every_digit(method: Method) -> None:
    Y, P = distorted(60, 3, 0.7, 0.2)
    fitted = fit_calibration(Y, P, method)
    again = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    np.testing.assert_array_equal(again(P), fitted(P))
    assert again.to_dict() == fitted.to_dict()


@pytest.mark.parametrize("method", METHODS)
def test_awkward_input(method: Method) -> None:
    P = np.random.default_rng(0).random((30, 3)).astype(np.float32)
    P[0], P[1] = 0, 1
    none = np.zeros((30, 3))
    for Y, most in ((none, 0.3), (np.ones((30, 3)), 1.0), (np.eye(30)[:, :3], 1.0), (np.full((30, 3), 0.25), 1.0)):
        out = fit_calibration(Y, P, method)(P)
        assert np.isfinite(out).all()
        assert out.min() >= 0
        if method == "temperature":  # labels of one image, of which one is true
            np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-5)
        elif method != "none":
            assert out[2:].mean() <= most
    one = fit_calibration([[1.0]], [[0.3]], method)([[0.3]])
    assert 0 <= float(one[0, 0]) <= 1


def test_soft_labels_keep_their_mass() -> None:
    rng = np.random.default_rng(0)
    P = rng.random((500, 2)).astype(np.float32)
    soft = (P * 0.5).astype(np.float32)
    for method in ("platt", "isotonic", "beta"):
        out = fit_calibration(soft, P, method)(P)  # type: ignore[arg-type]
        np.testing.assert_allclose(out.mean(axis=0), soft.mean(axis=0), atol=0.02)


def test_none_gives_probabilities_back() -> None:
    P = np.float32([[0.2, 0.9]])
    np.testing.assert_array_equal(fit_calibration([[0, 1]], P, "none")(P), P)
    assert get_args(Method) == METHODS


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="method must be"):
        fit_calibration([[0]], [[0.5]], "sigmoid")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="P holds NaN"):
        fit_calibration([[0]], [[np.nan]])
    with pytest.raises(ValueError, match="Y holds NaN"):
        fit_calibration([[np.nan]], [[0.5]])
    with pytest.raises(ValueError, match="fitted with 1"):
        fit_calibration([[0]], [[0.5]])([[0.5, 0.5]])
