import json
import os

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge

from labelstack.scoring.metrics import f_beta
from labelstack.stacking.stackers import linear, logit_features
from labelstack.stacking.stackers.linear import LogisticStacker, RidgeStacker
from labelstack.stacking.stackers.logit_features import Context, LogitColumns, SharedColumns, own_inputs, rivals
from labelstack.stacking.stackers.newton import LOGISTIC, SQUARED, Matrices, fit_labels, fit_shared, leave_one_out
from labelstack.stacking.stackers.xgb_training import thread_count
from labelstack.support.cores import cores
from labelstack.support.errors import UserError

from .conftest import make_data

PLAIN = {"pooled": False, "rivals": False, "context": 0}


def log_loss(Y, P):
    P = np.clip(P.astype(np.float64), 1e-6, 1 - 1e-6)
    return -(Y * np.log(P) + (1 - Y) * np.log(1 - P)).mean()


def scaled_inputs(stacker, cube):
    """Columns of each label's regression, [n_labels, n, columns]."""
    return own_inputs(cube, stacker.inputs, stacker.clip) / stacker.arrays_["scale"]


@pytest.mark.parametrize("strength", [0.05, 1.0, 20.0])
def test_without_extras_it_is_scikit_learns_logistic_regression(data, strength):
    cube, Y = data
    stacker = LogisticStacker(strength=strength, **PLAIN).fit(cube, Y)
    found = stacker.predict_proba(cube)
    for label, X in enumerate(scaled_inputs(stacker, cube)):
        oracle = LogisticRegression(C=strength, tol=1e-9, solver="newton-cholesky", max_iter=500).fit(X, Y[:, label])
        np.testing.assert_allclose(found[:, label], oracle.predict_proba(X)[:, 1], atol=2e-6)


def test_without_extras_ridge_is_scikit_learns_ridge(data):
    cube, Y = data
    stacker = RidgeStacker(strength=0.2, **PLAIN).fit(cube, Y)
    found = stacker.predict_proba(cube)
    for label, X in enumerate(scaled_inputs(stacker, cube)):
        oracle = Ridge(alpha=5.0).fit(X, Y[:, label])
        np.testing.assert_allclose(found[:, label], np.clip(oracle.predict(X), 0, 1), atol=2e-6)


def test_soft_targets_are_split_images(data):
    """A target of 0.3 is an image that is 30 % positive: scikit-learn's weights say the same."""
    cube, Y = data
    soft = 0.2 + 0.6 * Y[:, :1].astype(np.float32)
    stacker = LogisticStacker(strength=1.0, **PLAIN).fit(cube[:, :, :1], soft)
    (X,) = scaled_inputs(stacker, cube[:, :, :1])
    weights = np.concatenate([soft[:, 0], 1 - soft[:, 0]])
    answers = np.repeat([1, 0], len(X))
    oracle = LogisticRegression(C=1.0, tol=1e-9, solver="newton-cholesky")
    oracle.fit(np.vstack([X, X]), answers, sample_weight=weights)
    np.testing.assert_allclose(stacker.predict_proba(cube[:, :, :1])[:, 0], oracle.predict_proba(X)[:, 1], atol=2e-6)


def newton_case(seed=0, n_labels=3, n=40, d=4):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_labels, n, d))
    X[:, :, -1] = 1
    Y = (rng.random((n_labels, n)) < 0.4).astype(np.float64)
    return X, Y, np.array([1.0, 0.5, 2.0, 0.1]), rng.normal(size=(n_labels, n))


@pytest.mark.parametrize("family", [LOGISTIC, SQUARED])
def test_newton_finds_the_minimum_that_bfgs_finds(family):
    X, Y, penalty, offset = newton_case()
    found = fit_labels(X, Y, penalty, offset, family)
    for x, y, o, w in zip(X, Y, offset, found, strict=True):
        oracle = minimize(
            lambda v, x=x, y=y, o=o: family.loss(x @ v + o, y).sum() + (penalty * v**2).sum() / 2, w * 0, tol=1e-10
        )
        np.testing.assert_allclose(w, oracle.x, atol=1e-4)


def test_newton_converges_where_whole_steps_would_overshoot():
    x = np.array([[[100.0], [-80.0], [0.001]]])
    y, offset = np.array([[1.0, 0.0, 0.0]]), np.array([[30.0, 25.0, -20.0]])
    found = fit_labels(x, y, np.array([1e-4]), offset)
    around = [
        float(LOGISTIC.loss(x[0, :, 0] * w + offset[0], y[0]).sum() + 1e-4 * w**2 / 2)
        for w in np.linspace(-3, 3, 20001)
    ]
    value = float(LOGISTIC.loss(x[0, :, 0] * found[0, 0] + offset[0], y[0]).sum() + 1e-4 * found[0, 0] ** 2 / 2)
    assert value <= min(around) + 1e-6


def test_shared_weights_are_the_regression_of_all_labels_in_one():
    X, Y, penalty, _ = newton_case(n_labels=5)
    centre = np.array([0.5, 0.0, -0.5, 0.0])
    blocks = [(X[:2], Y[:2]), (X[2:], Y[2:])]
    found = fit_shared([lambda block=block: block for block in blocks], penalty, centre)
    flat, offset = X.reshape(1, -1, 4), (X.reshape(-1, 4) @ centre)[None]
    np.testing.assert_allclose(found, centre + fit_labels(flat, Y.reshape(1, -1), penalty, offset)[0], atol=1e-6)


def left_out(X, Y, penalty, offset, family):
    """Loss of each label when every image in turn is really left out."""
    total = np.zeros(len(X))
    for i in range(X.shape[1]):
        keep = np.arange(X.shape[1]) != i
        W = fit_labels(X[:, keep], Y[:, keep], penalty, offset[:, keep], family)
        total += family.loss((X[:, i] * W).sum(axis=1) + offset[:, i], Y[:, i])
    return total


def test_leave_one_out_is_exact_for_the_squared_loss():
    X, Y, penalty, offset = newton_case()
    W = fit_labels(X, Y, penalty, offset, SQUARED)
    truth = left_out(X, Y, penalty, offset, SQUARED)
    np.testing.assert_allclose(leave_one_out(X, Y, penalty, offset, W, SQUARED), truth, rtol=1e-6)


def test_leave_one_out_is_close_for_the_logistic_loss():
    X, Y, penalty, offset = newton_case()
    W = fit_labels(X, Y, penalty, offset)
    in_sample = LOGISTIC.loss((X * W[:, None, :]).sum(axis=2) + offset, Y).sum(axis=1)
    truth = left_out(X, Y, penalty, offset, LOGISTIC)
    found = leave_one_out(X, Y, penalty, offset, W)
    assert (np.abs(found - truth) < 0.1 * (truth - in_sample)).all()


def test_rivals_by_hand():
    z = np.array([[0.0, np.log(3.0), -1.0]])
    found = rivals(z)
    assert found.shape == (3, 1, 3)
    odds, p = np.exp(z[0]), 1 / (1 + np.exp(-z[0]))
    np.testing.assert_allclose(found[0, 0], [np.log(odds[1] + odds[2]), z[0, 1], np.log(p[1] + p[2])], rtol=1e-5)
    np.testing.assert_allclose(found[1, 0], [np.log(odds[0] + odds[2]), z[0, 0], np.log(p[0] + p[2])], rtol=1e-5)
    np.testing.assert_allclose(found[2, 0], [np.log(odds[0] + odds[1]), z[0, 1], np.log(p[0] + p[1])], rtol=1e-5)
    assert not rivals(np.zeros((4, 1))).any()


def test_a_context_of_lower_rank_keeps_the_strongest_directions():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 7)) + 0.01 * rng.normal(size=(50, 7))
    whole, cut = Context.of(z, 7)(z), Context.of(z, 2)(z)
    np.testing.assert_allclose(cut @ cut.T, whole @ whole.T, atol=0.05 * np.abs(whole @ whole.T).max())
    np.testing.assert_allclose(whole.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(whole.std(axis=0), 1, atol=1e-4)


def test_blocks_cover_all_labels_in_order():
    columns = LogitColumns(np.zeros((7, 5, 3), np.float32), SharedColumns(np.ones((5, 2))))
    blocks = list(columns.blocks(size=40))
    assert [label for block in blocks for label in range(7)[block]] == list(range(7))
    assert len(blocks) == 4
    assert columns.of(blocks[0]).shape == (2, 5, 6)


@pytest.mark.parametrize("cls", [LogisticStacker, RidgeStacker])
def test_block_size_does_not_change_the_answer(data, cls, monkeypatch):
    cube, Y = data
    whole = cls().fit(cube, Y).predict_proba(cube)
    blocks = LogitColumns.blocks
    monkeypatch.setattr(LogitColumns, "blocks", lambda self: blocks(self, size=1))
    np.testing.assert_allclose(cls().fit(cube, Y).predict_proba(cube), whole, atol=1e-5)


def rare_data(seed):
    """60 labels, most of them with a handful of positives; the third model is noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(1200, 60)) * 2 - np.linspace(1, 7, 60)
    Y = (rng.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(np.uint8)
    views = np.stack([truth + rng.normal(size=truth.shape) * s for s in (0.5, 1.0, 4.0)], axis=1)
    return (1 / (1 + np.exp(-views))).astype(np.float32), Y


def test_rare_labels_gain_from_shared_weights():
    cube, Y = rare_data(0)
    loss = {}
    for name, stacker in {"alone": LogisticStacker(strength=1.0, **PLAIN), "pooled": LogisticStacker()}.items():
        loss[name] = log_loss(Y[400:], stacker.fit(cube[:200], Y[:200]).predict_proba(cube[400:]))
    assert loss["pooled"] < 0.97 * loss["alone"]


def test_rivals_help_where_every_image_has_one_label():
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=900)
    Y = np.eye(5, dtype=np.uint8)[truth]
    views = 1.5 * Y[:, None] + rng.normal(size=(900, 3, 5)) - 1
    cube = (1 / (1 + np.exp(-views))).astype(np.float32)
    loss = [
        log_loss(Y[300:], LogisticStacker(rivals=on, context=0).fit(cube[:300], Y[:300]).predict_proba(cube[300:]))
        for on in (False, True)
    ]
    assert loss[1] < 0.95 * loss[0]


def test_the_context_helps_where_models_miss_a_label_that_others_give_away():
    rng = np.random.default_rng(0)
    Y = (rng.random((800, 4)) < 0.5).astype(np.uint8)
    Y[:, 3] = Y[:, 0]
    views = 2.0 * Y[:, None] - 1 + 0.3 * rng.normal(size=(800, 2, 4))
    views[:, :, 3] = rng.normal(size=(800, 2))
    cube = (1 / (1 + np.exp(-views))).astype(np.float32)
    without, with_ = (
        LogisticStacker(context=c, rivals=False).fit(cube[:400], Y[:400]).predict_proba(cube[400:])[:, 3]
        for c in (0, None)
    )
    assert f_beta(Y[400:, 3:], without[:, None] > 0.5, average="micro") < 0.8
    assert f_beta(Y[400:, 3:], with_[:, None] > 0.5, average="micro") > 0.95


def test_the_strength_chosen_is_strong_for_noise_and_weak_for_differing_labels():
    cube, Y = rare_data(1)
    noise = LogisticStacker(context=0).fit(cube[:300], Y[:300]).arrays_["chosen"][0]
    rng = np.random.default_rng(0)
    Y = (rng.random((900, 4)) < 0.5).astype(np.uint8)
    views = rng.normal(size=(900, 2, 4))
    for label in range(4):
        views[:, label % 2, label] += 3.0 * Y[:, label] * (1 if label < 2 else -1)
    cube = (1 / (1 + np.exp(-views))).astype(np.float32)
    differing = LogisticStacker(context=0).fit(cube, Y).arrays_["chosen"][0]
    assert noise <= 0.03
    assert differing >= 0.3


def test_the_strength_is_chosen_on_some_rows_and_labels_of_many(data, monkeypatch):
    cube, Y = data
    every = LogisticStacker().fit(cube, Y)
    monkeypatch.setattr(linear, "_CHOICE_ROWS", 60)
    monkeypatch.setattr(linear, "_CHOICE_LABELS", 3)
    some = LogisticStacker().fit(cube, Y)
    assert some.arrays_["weights"].shape == every.arrays_["weights"].shape
    assert abs(log_loss(Y, some.predict_proba(cube)) - log_loss(Y, every.predict_proba(cube))) < 0.1


@pytest.mark.parametrize(("least", "called"), [(2, [2, 3, 1]), (4, [2, 3, 4]), (0, [2, 3, 1, 0]), (1, [2, 3, 1, 0])])
def test_the_walk_over_strengths_stops_past_the_minimum(least, called):
    seen = []
    linear._descend(range(5), lambda value: seen.append(value) or abs(value - least))
    assert seen == called


@pytest.mark.parametrize("cls", [LogisticStacker, RidgeStacker])
@pytest.mark.parametrize("kwargs", [{}, PLAIN, {"inputs": "both", "context": None}])
@pytest.mark.parametrize(("n", "n_models", "n_labels"), [(40, 1, 1), (40, 1, 3), (40, 3, 1), (8, 2, 50), (2, 2, 2)])
def test_odd_shapes(cls, kwargs, n, n_models, n_labels):
    cube, Y = make_data(n, n_models, n_labels)
    found = cls(**kwargs).fit(cube, Y).predict_proba(cube)
    assert found.shape == (n, n_labels)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("cls", [LogisticStacker, RidgeStacker])
def test_labels_that_are_constant(data, cls):
    cube, Y = data
    Y = Y.copy()
    Y[:, 0], Y[:, 1] = 0, 1
    pooled = cls().fit(cube, Y).predict_proba(cube)
    assert pooled[:, 0].max() < 0.5 < pooled[:, 1].min() + 0.5
    assert pooled[:, 0].mean() < 0.1
    assert pooled[:, 1].mean() > 0.9
    alone = cls(**PLAIN).fit(cube, Y).predict_proba(cube)
    np.testing.assert_allclose(alone[:, 0], 0.5 / 121, rtol=1e-4)
    np.testing.assert_allclose(alone[:, 1], 120.5 / 121, rtol=1e-4)


def test_no_label_has_a_positive(data):
    cube, Y = data
    assert LogisticStacker().fit(cube, np.zeros_like(Y)).predict_proba(cube).max() < 0.1


def test_probabilities_of_exactly_0_and_1(data):
    _, Y = data
    cube = np.repeat(Y[:, None].astype(np.float32), 2, axis=1)
    found = LogisticStacker().fit(cube, Y).predict_proba(cube)
    np.testing.assert_array_equal(found > 0.5, Y)


def test_1103_labels():
    rng = np.random.default_rng(0)
    Y = (rng.random((60, 1103)) < 0.02).astype(np.uint8)
    cube = np.clip(Y[:, None] * 0.3 + rng.random((60, 3, 1103)) * 0.5, 0, 1).astype(np.float32)
    found = LogisticStacker().fit(cube, Y).predict_proba(cube)
    assert found[Y == 1].mean() > 5 * found[Y == 0].mean()


@pytest.mark.parametrize("cls", [LogisticStacker, RidgeStacker])
def test_fits_and_folders_are_deterministic_and_load_gives_the_same_stacker(data, cls, tmp_path):
    cube, Y = data
    first, second = cls(context=None).fit(cube, Y), cls(context=None).fit(cube, Y)
    assert first.digest() == second.digest()
    first.save(tmp_path / "a")
    second.save(tmp_path / "b")
    for name in ("config.json", "arrays.zip"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    loaded = cls.load(tmp_path / "a")
    assert loaded.digest() == first.digest()
    assert loaded.get_params() == first.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(cube), first.predict_proba(cube))
    assert cls(context=None).fit(cube, 1 - Y).digest() != first.digest()


def test_the_number_of_threads_does_not_change_the_answer(data, monkeypatch):
    cube, Y = make_data(300, 3, 70)
    many = LogisticStacker().fit(cube, Y).digest()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert LogisticStacker().fit(cube, Y).digest() == many


def test_a_system_without_affinity_has_cores_too(data, monkeypatch):
    """macOS and Windows have no ``sched_getaffinity``."""
    cube, Y = data
    expected = {cls: cls().fit(cube, Y).digest() for cls in (LogisticStacker, RidgeStacker)}
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == os.cpu_count()
    assert thread_count(None) == os.cpu_count()
    assert {cls: cls().fit(cube, Y).digest() for cls in expected} == expected


def test_what_is_no_saved_stacker_is_refused(data, tmp_path):
    cube, Y = data
    LogisticStacker().fit(cube, Y).save(tmp_path / "s")
    with pytest.raises(UserError, match="not a saved RidgeStacker"):
        RidgeStacker.load(tmp_path / "s")
    config = json.loads((tmp_path / "s" / "config.json").read_text())
    (tmp_path / "s" / "config.json").write_text(json.dumps(config | {"params": {"depth": 3}}))
    with pytest.raises(UserError, match=r"config.json: not a saved LogisticStacker"):
        LogisticStacker.load(tmp_path / "s")
    (tmp_path / "s" / "config.json").write_text(json.dumps(config | {"arrays": ["absent"]}))
    with pytest.raises(UserError, match=r"arrays.zip: an array is absent"):
        LogisticStacker.load(tmp_path / "s")


def test_input_that_does_not_fit_is_named(data):
    cube, Y = data
    hole = cube.copy()
    hole[3, 1, 2] = np.nan
    with pytest.raises(ValueError, match=r"cube .*NaN"):
        LogisticStacker().fit(hole, Y)
    with pytest.raises(ValueError, match=r"Y "):
        LogisticStacker().fit(cube, Y[:, :-1])
    with pytest.raises(ValueError, match="strength"):
        LogisticStacker(strength=0).fit(cube, Y)
    with pytest.raises(ValueError, match="fitted with 4 and 6"):
        LogisticStacker().fit(cube, Y).predict_proba(cube[:, :2])


def written_out(columns: LogitColumns) -> np.ndarray:
    """Matrices of all labels: own columns, shared ones, 1."""
    n_labels, n, _ = columns.own.shape
    shared = np.broadcast_to(columns.shared.values, (n_labels, n, columns.shared.rank))
    return np.concatenate([columns.own.astype(np.float64), shared, np.ones((n_labels, n, 1))], axis=2)


@pytest.mark.parametrize("products", [10**9, 100])
def test_columns_that_labels_share_give_what_matrices_written_out_give(monkeypatch, products):
    monkeypatch.setattr(logit_features, "_PRODUCTS", products)
    rng = np.random.default_rng(0)
    columns = LogitColumns(rng.normal(size=(4, 60, 3)).astype(np.float32), SharedColumns(rng.normal(size=(60, 5))))
    design, plain = columns.of(slice(0, 4)), Matrices(written_out(columns))
    W, R, weights = rng.normal(size=(4, 9)), rng.normal(size=(4, 60)), rng.random((4, 60))
    assert design.shape == plain.shape
    np.testing.assert_allclose(design.linear(W), plain.linear(W), atol=1e-12)
    np.testing.assert_allclose(design.transposed(R), plain.transposed(R), atol=1e-12)
    np.testing.assert_allclose(design.gram(weights, False), plain.gram(weights, False), atol=1e-11)
    np.testing.assert_allclose(design.gram(None, False), plain.gram(None, False), atol=1e-11)
    np.testing.assert_allclose(design.gram(weights, True), plain.gram(weights, False), atol=1e-4)
    A = np.linalg.inv(plain.gram(weights, False))
    np.testing.assert_allclose(design.leverage(A), plain.leverage(A), atol=1e-6)  # in single precision
    np.testing.assert_allclose(design.some(np.array([2])).linear(W[[2]]), plain.linear(W)[[2]], atol=1e-12)


@pytest.mark.parametrize("family", [LOGISTIC, SQUARED])
def test_single_precision_hessians_lead_to_the_same_weights(family):
    rng = np.random.default_rng(1)
    columns = LogitColumns(rng.normal(size=(5, 200, 3)).astype(np.float32), SharedColumns(rng.normal(size=(200, 8))))
    Y = (rng.random((5, 200)) < 0.1).astype(np.float64)
    penalty, offset = np.full(columns.width, 0.5), rng.normal(size=(5, 200)) - 2
    found = fit_labels(columns.of(slice(0, 5)), Y, penalty, offset, family)
    np.testing.assert_allclose(found, fit_labels(written_out(columns), Y, penalty, offset, family), atol=2e-6)


def test_shared_weights_do_not_depend_on_where_the_search_starts():
    X, Y, penalty, _ = newton_case(n_labels=5)
    centre, start = np.zeros(4), np.array([0.3, -0.2, 0.1, 0.5])
    found = fit_shared([lambda: (X, Y)], penalty, centre, start=start)
    np.testing.assert_allclose(found, fit_shared([lambda: (X, Y)], penalty, centre), atol=1e-6)
