import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstack.scoring.metric import FMetric
from labelstack.scoring.metrics import f_beta
from labelstack.stacking import search_weights
from labelstack.stacking.deciding import thresholds
from labelstack.stacking.stackers import means
from labelstack.stacking.stackers.construction import load_stacker
from labelstack.stacking.stackers.means import (
    GreedyStacker,
    MeanStacker,
    PerLabelWeightsStacker,
    RankMeanStacker,
    WeightedMeanStacker,
    convex_weights,
)

from .conftest import make_data

ALL = [MeanStacker, RankMeanStacker, WeightedMeanStacker, GreedyStacker, PerLabelWeightsStacker]


def log_loss(Y, P):
    P = np.clip(P.astype(np.float64), 1e-6, 1 - 1e-6)
    return -(Y * np.log(P) + (1 - Y) * np.log(1 - P)).mean()


def unequal(n=400, n_labels=5, seed=0):
    """Three calibrated models of falling skill; the first sees almost the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, n_labels)) * 2
    Y = (rng.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(np.uint8)
    views = np.stack([truth, truth * 0.3 + rng.normal(size=truth.shape), rng.normal(size=truth.shape)], axis=1)
    return (1 / (1 + np.exp(-views))).astype(np.float32), Y


def test_means_by_hand():
    cube = np.array([[[0.2], [0.6]], [[0.5], [0.5]]], np.float32)
    Y = [[0], [1]]
    np.testing.assert_allclose(MeanStacker().fit(cube, Y).predict_proba(cube), [[0.4], [0.5]], rtol=1e-6)
    odds = np.sqrt(0.2 / 0.8 * 0.6 / 0.4)
    logit = MeanStacker(space="logit").fit(cube, Y).predict_proba(cube)
    np.testing.assert_allclose(logit, [[odds / (1 + odds)], [0.5]], rtol=1e-5)


def test_ranks_of_one_model_give_its_probabilities_back():
    cube, Y = make_data(80, 1, 3)
    found = RankMeanStacker().fit(cube, Y).predict_proba(cube)
    np.testing.assert_allclose(found, cube[:, 0], atol=1e-6)


def test_ranks_ignore_what_a_model_does_to_its_scale():
    cube, Y = make_data(80, 3, 4)
    bent = cube.copy()
    bent[:, 1] = bent[:, 1] ** 5
    plain, other = (RankMeanStacker().fit(each, Y).predict_proba(each) for each in (cube, bent))
    for label in range(4):
        np.testing.assert_array_equal(np.argsort(plain[:, label]), np.argsort(other[:, label]))


def test_ranks_by_hand():
    cube = np.array([[[0.1], [0.4]], [[0.3], [0.2]], [[0.5], [0.9]]], np.float32)
    stacker = RankMeanStacker().fit(cube, [[0], [1], [1]])
    # Row 0 has shares 1/6 and 1/2, row 1 1/2 and 1/6, row 2 5/6 twice; the models' means are 0.25, 0.25, 0.7.
    np.testing.assert_allclose(stacker.predict_proba(cube)[:, 0], [0.25, 0.25, 0.7], rtol=1e-6)
    beyond = stacker.predict_proba(np.array([[[0.0], [0.0]], [[1.0], [1.0]]], np.float32))
    np.testing.assert_allclose(beyond[:, 0], [0.25, 0.7], rtol=1e-6)


def test_ranks_of_many_rows_are_kept_as_quantiles(monkeypatch):
    cube, Y = make_data(500, 2, 3)
    every = RankMeanStacker().fit(cube, Y).predict_proba(cube)
    monkeypatch.setattr(means, "_QUANTILES", 101)
    stacker = RankMeanStacker().fit(cube, Y)
    assert stacker.arrays_["models"].shape == (2, 3, 101)
    np.testing.assert_allclose(stacker.predict_proba(cube), every, atol=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_no_convex_weights_have_a_smaller_log_loss(seed):
    cube, Y = unequal(n=60, n_labels=3, seed=seed)
    weights = convex_weights(cube, Y.astype(np.float32))
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    best = log_loss(Y, np.einsum("nml,m->nl", cube, weights))
    for other in np.random.default_rng(seed).dirichlet(np.ones(3), size=200):
        assert best <= log_loss(Y, np.einsum("nml,m->nl", cube, other)) + 1e-5


def test_convex_weights_of_soft_and_of_rare_labels_reach_the_optimum():
    rng = np.random.default_rng(3)
    for rate, soft in ((0.3, True), (0.004, False)):
        Y = (rng.random((300, 40)) < rate).astype(np.float32)
        noise = rng.random((300, 2, 40)).astype(np.float32) * [[[0.02], [0.3]]]
        cube = np.clip(Y[:, None] * 0.6 + noise * rate, 0.001, 0.999).astype(np.float32)
        if soft:
            Y = np.clip(np.abs(Y - rng.random(Y.shape) * 0.4), 0, 1).astype(np.float32)
        weights = convex_weights(cube, Y)

        def loss(first: float, cube=cube, Y=Y) -> float:
            p = cube[:, 0] * first + cube[:, 1] * (1 - first)
            return float(-(Y * np.log(p) + (1 - Y) * np.log(1 - p)).mean())

        assert loss(weights[0]) <= min(loss(first) for first in np.linspace(0, 1, 201)) * (1 + 1e-5)


def test_the_better_model_gets_the_weight():
    cube, Y = unequal()
    for stacker in (WeightedMeanStacker(), GreedyStacker(), WeightedMeanStacker(objective="f")):
        weights = stacker.fit(cube, Y).arrays_["weights"]
        assert weights.argmax() == 0
        assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(("metric", "beta"), [("samples", 1.0), ("micro", 2.0), ("macro", 1.0)])
def test_weights_for_f_are_not_below_those_for_the_log_loss(metric, beta):
    cube, Y = unequal(n=120)

    def best(stacker):
        P = stacker.fit(cube, Y).predict_proba(cube)
        cut = thresholds.best_global(Y.astype(bool), P, metric, beta)
        return f_beta(Y, thresholds.apply(P, cut), average=metric, beta=beta)

    tuned = best(WeightedMeanStacker(objective="f", metric=metric, beta=beta))
    assert tuned >= best(WeightedMeanStacker()) - 1e-6


def test_greedy_is_the_blends_search():
    cube, Y = unequal()
    expected = search_weights({str(m): cube[:, m] for m in range(3)}, Y, step=0.1, metric=FMetric("micro", 2))
    found = GreedyStacker(step=0.1, metric="micro", beta=2).fit(cube, Y).arrays_["weights"]
    np.testing.assert_allclose(found, list(expected.values()))


def test_each_label_gets_its_own_good_model():
    cube, Y = unequal(n_labels=4)
    cube[:, :, 2:] = cube[:, ::-1, 2:]
    weights = PerLabelWeightsStacker(shrinkage=5).fit(cube, Y).arrays_["weights"]
    np.testing.assert_array_equal(weights.argmax(axis=0), [0, 0, 2, 2])
    np.testing.assert_allclose(weights.sum(axis=0), 1)


def test_shrinkage_draws_labels_to_the_shared_weights():
    cube, Y = unequal(n_labels=4)
    shared = convex_weights(cube, Y.astype(np.float32))
    distance = [
        np.abs(PerLabelWeightsStacker(shrinkage=s).fit(cube, Y).arrays_["weights"] - shared[:, None]).max()
        for s in (0, 100, 1e8)
    ]
    assert distance[0] > distance[1] > distance[2]
    assert distance[2] < 1e-4


def test_without_shrinkage_each_labels_weights_are_its_best():
    cube, Y = unequal(n=150, n_labels=3)
    cube = np.clip(cube * 0.9 + 0.05, 0, 1)
    weights = PerLabelWeightsStacker(shrinkage=0).fit(cube, Y).arrays_["weights"]
    for label in range(3):
        alone = convex_weights(cube[:, :, [label]], Y[:, [label]].astype(np.float32))
        found, best = (log_loss(Y[:, label], cube[:, :, label] @ w) for w in (weights[:, label], alone))
        assert found == pytest.approx(best, abs=2e-3)


def test_labels_in_blocks_give_the_same_weights(monkeypatch):
    cube, Y = unequal()
    whole = PerLabelWeightsStacker().fit(cube, Y).arrays_["weights"]
    monkeypatch.setattr(means, "_BLOCK", 1)
    np.testing.assert_allclose(PerLabelWeightsStacker().fit(cube, Y).arrays_["weights"], whole, atol=2e-3)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize(("n", "n_models", "n_labels"), [(30, 1, 1), (30, 1, 4), (30, 3, 1), (2, 2, 3)])
def test_odd_shapes(cls, n, n_models, n_labels):
    cube, Y = make_data(n, n_models, n_labels)
    found = cls().fit(cube, Y).predict_proba(cube)
    assert found.shape == (n, n_labels)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("cls", ALL)
def test_labels_without_positives_soft_labels_and_extreme_probabilities(cls):
    cube, Y = unequal(n=60)
    cube[:5] = 0
    cube[5:10] = 1
    soft = Y * np.float32(0.8) + np.float32(0.1)
    soft[:, 0] = 0
    found = cls().fit(cube, soft).predict_proba(cube)
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match="cube"):
        cls().fit(np.where(cube > 0.99, np.nan, cube), soft)


@pytest.mark.parametrize("cls", ALL)
def test_saved_stackers_load_by_their_kind(cls, tmp_path):
    cube, Y = unequal(n=50)
    stacker = cls().fit(cube, Y)
    stacker.save(tmp_path / "s")
    loaded = load_stacker(tmp_path / "s")
    assert type(loaded) is cls
    assert loaded.digest() == stacker.digest() == cls().fit(cube, Y).digest()
    np.testing.assert_array_equal(loaded.predict_proba(cube), stacker.predict_proba(cube))


def test_parameters_out_of_bounds_are_named():
    cube, Y = unequal(n=30)
    with pytest.raises(ValueError, match="shrinkage"):
        PerLabelWeightsStacker(shrinkage=-1).fit(cube, Y)
    with pytest.raises(ValueError, match="objective"):
        WeightedMeanStacker(objective="auc").fit(cube, Y)
