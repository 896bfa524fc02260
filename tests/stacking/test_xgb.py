"""The XGBoost stacker against scikit-learn's MultiOutputRegressor."""

from __future__ import annotations

import json
import logging
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xgboost
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputRegressor

from labelstack.params.stackers import XGBoostStackerSection
from labelstack.stacking import XGBoostStacker, load_stacker, make_stacker
from labelstack.stacking.stackers.xgb_features import related_labels
from labelstack.stacking.stackers.xgb_training import _Matrices, each_label, held_out
from labelstack.support.errors import UserError

from .conftest import Data, make_data

SETTINGS = {"n_estimators": 12, "max_depth": 3, "learning_rate": 0.2, "n_jobs": 1}


@pytest.mark.parametrize(
    "more",
    [{}, {"subsample": 0.7, "colsample_bytree": 0.6}, {"min_child_weight": 3, "reg_lambda": 2}],
    ids=["plain", "subsampled", "regularised"],
)
def test_all_features_is_multi_output_regressor_to_the_last_bit(data: Data, more: dict[str, float]) -> None:
    cube, Y = data
    regressor = xgboost.XGBRegressor(
        objective="binary:logistic", tree_method="hist", random_state=7, **SETTINGS, **more
    )
    reference = MultiOutputRegressor(regressor).fit(cube.reshape(len(cube), -1), Y)
    stacker = XGBoostStacker(features="all", seed=7, **SETTINGS, **more).fit(cube, Y)
    unseen, _ = make_data(50, 4, 6, seed=3)
    for some in (cube, unseen):
        np.testing.assert_array_equal(stacker.predict_proba(some), reference.predict(some.reshape(len(some), -1)))


def test_own_features_see_only_the_label(data: Data) -> None:
    cube, Y = data
    stacker = XGBoostStacker(features="own", **SETTINGS).fit(cube, Y)
    regressor = xgboost.XGBRegressor(objective="binary:logistic", tree_method="hist", random_state=0, **SETTINGS)
    np.testing.assert_array_equal(
        stacker.predict_proba(cube)[:, 2], regressor.fit(cube[:, :, 2], Y[:, 2]).predict(cube[:, :, 2])
    )
    changed = cube.copy()
    changed[:, :, 3] = 0.5
    np.testing.assert_array_equal(stacker.predict_proba(changed)[:, 2], stacker.predict_proba(cube)[:, 2])


def test_context_is_the_mean_of_the_models(data: Data) -> None:
    cube, Y = data
    stacker = XGBoostStacker(features="own+context", **SETTINGS).fit(cube, Y)
    regressor = xgboost.XGBRegressor(objective="binary:logistic", tree_method="hist", random_state=0, **SETTINGS)
    columns = np.hstack([cube[:, :, 1], cube.mean(axis=1)])
    np.testing.assert_array_equal(stacker.predict_proba(cube)[:, 1], regressor.fit(columns, Y[:, 1]).predict(columns))


def test_top_k_are_the_labels_that_tell_most_beyond_the_own_mean() -> None:
    rng = np.random.default_rng(0)
    cube = rng.uniform(size=(800, 3, 5)).astype(np.float32)
    cube[:, :, 4] = np.clip(cube[:, :, 0] + rng.normal(0, 0.01, (800, 3)), 0, 1)  # the same again as label 0
    means = cube.mean(axis=1)
    Y = (means + rng.normal(0, 0.05, means.shape) > 0.5).astype(np.uint8)
    Y[:, 0] = means[:, 0] + 0.6 * means[:, 2] - 0.4 * means[:, 1] + rng.normal(0, 0.02, 800) > 0.6
    assert related_labels(cube, Y.astype(np.float32), 2)[0].tolist() == [2, 1]
    stacker = XGBoostStacker(features="own+top_k", top_k=2, **SETTINGS).fit(cube, Y)
    regressor = xgboost.XGBRegressor(objective="binary:logistic", tree_method="hist", random_state=0, **SETTINGS)
    columns = np.hstack([cube[:, :, 0], means[:, [0, 2, 1]]])
    np.testing.assert_array_equal(stacker.predict_proba(cube)[:, 0], regressor.fit(columns, Y[:, 0]).predict(columns))


def test_related_labels_are_ranked_by_partial_correlation() -> None:
    cube, Y = make_data(300, 3, 7)
    found = related_labels(cube, Y.astype(np.float32), 6)
    means = cube.mean(axis=1).astype(np.float64)
    for label in range(7):
        own = np.column_stack([means[:, label], np.ones(300)])
        residual = [v - own @ np.linalg.lstsq(own, v, rcond=None)[0] for v in (Y[:, label], *means.T)]
        others = [other for other in range(7) if other != label]
        strength = [abs(np.corrcoef(residual[0], residual[1 + other])[0, 1]) for other in others]
        assert found[label].tolist() == [others[i] for i in np.argsort(strength)[::-1]]


def test_few_labels_and_constant_columns_have_what_relations_they_can() -> None:
    cube, Y = make_data(50, 2, 3)
    cube[:, :, 1] = 0.5
    targets = Y.astype(np.float32)
    assert related_labels(cube, targets, 9).shape == (3, 2)
    assert related_labels(cube[:, :, :1], targets[:, :1], 9).shape == (1, 0)
    one = XGBoostStacker(**SETTINGS).fit(cube[:, :1, :1], Y[:, :1])
    assert one.predict_proba(cube[:, :1, :1]).shape == (50, 1)


@pytest.mark.parametrize("features", ["all", "own+top_k"])
def test_threads_do_not_change_the_result(features: str) -> None:
    cube, Y = make_data(600, 5, 4)
    options = {"features": features, "subsample": 0.8, "n_estimators": 15, "early_stopping_rounds": 3}
    one, two, every = (XGBoostStacker(n_jobs=n, **options).fit(cube, Y) for n in (1, 2, None))
    np.testing.assert_array_equal(one.predict_proba(cube), two.predict_proba(cube))
    assert one.digest() == two.digest() == every.digest()


def test_copies_of_the_shared_matrix_are_bounded(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    cube, Y = data
    monkeypatch.setattr("labelstack.stacking.stackers.xgb_training._SHARED_BYTES", 2 * cube.size)
    seen: list[int] = []
    monkeypatch.setattr(_Matrices, "__del__", lambda self: seen.append(self.parallel), raising=False)
    bounded = XGBoostStacker(features="all", n_jobs=4, n_estimators=3).fit(cube, Y)
    assert seen == [2]
    assert bounded.digest() == XGBoostStacker(features="all", n_jobs=1, n_estimators=3).fit(cube, Y).digest()


@pytest.mark.parametrize("features", ["all", "own"])
def test_early_stopping_trains_anew_with_the_best_number_of_rounds(features: str) -> None:
    cube, Y = make_data(300, 3, 2)
    options = {"features": features, "max_depth": 3, "learning_rate": 0.3, "n_jobs": 1}
    stopped = XGBoostStacker(n_estimators=200, early_stopping_rounds=5, holdout=0.25, seed=4, **options).fit(cube, Y)
    settings = {"objective": "binary:logistic", "max_depth": 3, "learning_rate": 0.3, "nthread": 1}
    for label in range(2):
        answers = Y[:, label].astype(np.float32)
        held = held_out(answers, 0.25, (4, label))
        assert held is not None
        columns = cube.reshape(300, -1) if features == "all" else cube[:, :, label]
        matrix = xgboost.QuantileDMatrix(columns)
        matrix.set_info(label=answers, weight=np.where(held, 0, 1).astype(np.float32))
        watched = xgboost.QuantileDMatrix(columns[held], answers[held], ref=matrix)
        own = xgboost.train(
            settings, matrix, 200, evals=[(watched, "held")], early_stopping_rounds=5, verbose_eval=False
        )
        rounds = own.best_iteration + 1
        assert stopped.boosters_[label].num_boosted_rounds() == rounds < 100
        whole = XGBoostStacker(n_estimators=rounds, seed=4, **options).fit(cube, Y)
        np.testing.assert_array_equal(whole.predict_proba(cube)[:, label], stopped.predict_proba(cube)[:, label])


def test_answers_held_out_do_not_reach_the_trees_that_they_stop() -> None:
    cube, Y = make_data(200, 3, 1)
    y = Y[:, 0].astype(np.float32)
    held = held_out(y, 0.3, (0, 0))
    assert held is not None
    matrix = xgboost.QuantileDMatrix(cube[:, :, 0])
    raw = []
    for answers in (y, np.where(held, 1 - y, y)):
        matrix.set_info(label=answers, weight=np.where(held, 0, 1).astype(np.float32))
        raw.append(bytes(xgboost.train({"objective": "binary:logistic", "nthread": 1}, matrix, 5).save_raw()))
    assert raw[0] == raw[1]


def test_held_out_rows_are_stratified() -> None:
    y = np.zeros(100, np.float32)
    y[:10] = 1
    held = held_out(y, 0.2, (0, 3))
    assert held is not None
    assert (held[:10].sum(), held[10:].sum()) == (2, 18)
    assert not np.array_equal(held, held_out(y, 0.2, (0, 4)))
    assert held_out(y[9:], 0.2, (0, 3)) is None
    assert held_out(1 - y[9:], 0.2, (0, 3)) is None


def test_trees_can_correct_the_calibrated_mean(data: Data, tmp_path: Path) -> None:
    cube, Y = make_data(400, 4, 3)
    stacker = XGBoostStacker(features="own", base="mean", **SETTINGS).fit(cube, Y)
    odds = np.clip(cube.mean(axis=1), 1e-4, 1 - 1e-4)
    logit = np.log(odds / (1 - odds))
    for label in range(3):
        exact = LogisticRegression(C=1e6).fit(logit[:, [label]], Y[:, label])
        slope, shift = stacker.base_[label]
        assert (slope, shift) == pytest.approx((exact.coef_[0, 0], exact.intercept_[0]), rel=0.1, abs=0.05)
        regressor = xgboost.XGBRegressor(objective="binary:logistic", tree_method="hist", random_state=0, **SETTINGS)
        margin = (slope * logit[:, label] + shift).astype(np.float32)
        regressor.fit(cube[:, :, label], Y[:, label], base_margin=margin)
        expected = regressor.predict(cube[:, :, label], base_margin=margin)
        np.testing.assert_allclose(stacker.predict_proba(cube)[:, label], expected, atol=2e-4)
    stacker.save(tmp_path / "s")
    loaded = load_stacker(tmp_path / "s")
    assert loaded.digest() == stacker.digest()
    np.testing.assert_array_equal(loaded.predict_proba(cube), stacker.predict_proba(cube))


@pytest.mark.parametrize("base", ["prior", "mean"])
def test_rare_labels_get_no_trees_and_the_log_says_so(
    data: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture, base: str
) -> None:
    cube, Y = data[0], data[1].copy()
    Y[:, 2], Y[:, 5] = 0, 1
    Y[:3, 2], Y[:3, 5] = 1, 0
    with caplog.at_level(logging.WARNING):
        stacker = XGBoostStacker(base=base, min_positives=4, **SETTINGS).fit(cube, Y)
    answer = {"prior": "a prior", "mean": "the calibrated mean of the models"}[base]
    assert f"2 label(s) have fewer than 4 positives or negatives here, answered with {answer}: 2, 5" in caplog.text
    assert sorted(stacker.boosters_) == [0, 1, 3, 4]
    probability = stacker.predict_proba(cube)
    if base == "prior":
        np.testing.assert_allclose(probability[:, 2], 3.5 / 121)
    else:
        assert probability[:, 2].mean() == pytest.approx(3 / 120, abs=2e-3)
        order = np.argsort(cube[:, :, 2].mean(axis=1))
        assert (np.diff(probability[order, 2]) >= 0).all()
    stacker.save(tmp_path / "s")
    np.testing.assert_array_equal(load_stacker(tmp_path / "s").predict_proba(cube), probability)
    assert 2 in XGBoostStacker(base=base, min_positives=3, **SETTINGS).fit(cube, Y).boosters_


def test_soft_labels_are_targets(data: Data) -> None:
    cube, Y = data
    soft = np.where(Y > 0, 0.8, 0.1).astype(np.float32)
    stacker = XGBoostStacker(features="own", **SETTINGS).fit(cube, soft)
    matrix = xgboost.QuantileDMatrix(cube[:, :, 2], soft[:, 2])
    settings = {"objective": "binary:logistic", "max_depth": 3, "learning_rate": 0.2}
    expected = xgboost.train(settings, matrix, 12).inplace_predict(cube[:, :, 2])
    np.testing.assert_array_equal(stacker.predict_proba(cube)[:, 2], expected)


def test_an_error_in_a_thread_ends_the_others() -> None:
    done: list[int] = []

    def work(label: int) -> int:
        if label == 1:
            raise ValueError("label 1")
        time.sleep(0.002)
        done.append(label)
        return label

    with pytest.raises(ValueError, match="label 1"):
        list(each_label(work, range(2000), 2, ""))
    assert len(done) < 1999


def test_constant_labels_get_their_prior_and_the_log_says_so(
    data: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cube, Y = data[0], data[1].copy()
    Y[:, 1], Y[:, 4] = 0, 1
    with caplog.at_level(logging.WARNING):
        stacker = XGBoostStacker(**SETTINGS).fit(cube, Y)
    assert "2 label(s) are constant here, answered with a prior: 1, 4" in caplog.text
    probability = stacker.predict_proba(cube)
    np.testing.assert_allclose(probability[:, 1], 0.5 / 121)
    np.testing.assert_allclose(probability[:, 4], 120.5 / 121)
    stacker.save(tmp_path / "s")
    np.testing.assert_array_equal(load_stacker(tmp_path / "s").predict_proba(cube), probability)


def test_all_labels_constant(data: Data) -> None:
    stacker = XGBoostStacker().fit(data[0], np.zeros_like(data[1]))
    assert (stacker.predict_proba(data[0]) < 0.01).all()


@pytest.mark.parametrize("features", ["all", "own", "own+context", "own+top_k"])
def test_save_and_load(data: Data, tmp_path: Path, features: str) -> None:
    cube, Y = data
    stacker = XGBoostStacker(features=features, **SETTINGS).fit(cube, Y)
    stacker.save(tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["boosters.zip", "config.json"]
    loaded = XGBoostStacker.load(tmp_path / "a")
    assert loaded.get_params() == stacker.get_params() | {"n_jobs": None}  # threads are this machine's affair
    assert loaded.digest() == stacker.digest()
    np.testing.assert_array_equal(loaded.predict_proba(cube), stacker.predict_proba(cube))
    XGBoostStacker(features=features, **SETTINGS).fit(cube, Y).save(tmp_path / "b")
    for name in ("boosters.zip", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_digest_tells_what_was_learnt(data: Data) -> None:
    cube, Y = data
    other = Y.copy()
    other[3:9, 0] ^= 1
    digests = {
        XGBoostStacker(**SETTINGS).fit(cube, Y).digest(),
        XGBoostStacker(**SETTINGS).fit(cube, other).digest(),
        XGBoostStacker(**SETTINGS, seed=1).fit(cube, Y).digest(),
    }
    assert len(digests) == 3


def test_damaged_files_are_the_users_to_mend(data: Data, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    XGBoostStacker(**SETTINGS).fit(*data).save(folder)
    with zipfile.ZipFile(folder / "boosters.zip", "w") as archive:
        archive.writestr("label-00000.ubj", b"nonsense")
    with pytest.raises(UserError, match=r"label-00000\.ubj is absent or damaged"):
        load_stacker(folder)
    (folder / "boosters.zip").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"boosters\.zip: damaged"):
        load_stacker(folder)
    (folder / "boosters.zip").unlink()
    with pytest.raises(UserError, match=r"boosters\.zip: not found"):
        load_stacker(folder)
    (folder / "config.json").write_text(json.dumps({"kind": "xgboost", "params": {"depth": 3}}))
    with pytest.raises(UserError, match="not a saved XGBoost stacker"):
        load_stacker(folder)
    (folder / "config.json").write_text(json.dumps({"kind": "forest"}))
    with pytest.raises(UserError, match="unknown stacker kind 'forest'"):
        load_stacker(folder)


def test_scikit_learn_manners(data: Data) -> None:
    stacker = XGBoostStacker(max_depth=2)
    assert clone(stacker).get_params() == stacker.get_params()
    assert stacker.set_params(max_depth=5).max_depth == 5
    with pytest.raises(NotFittedError):
        stacker.predict_proba(data[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cube, Y: (cube[0], Y), "cube must be numbers"),
        (lambda cube, Y: (cube * np.nan, Y), "cube holds NaN"),
        (lambda cube, Y: (cube + 1, Y), "cube must hold probabilities in 0 … 1"),
        (lambda cube, Y: (cube, Y[:-1]), "Y has 119 images and 6 labels, cube has 120 and 6"),
        (lambda cube, Y: (cube, Y * 2), "Y must hold labels in 0 … 1"),
        (lambda cube, Y: (cube, Y * np.nan), "Y holds NaN"),
    ],
)
def test_bad_input_is_refused_by_name(data: Data, change: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        XGBoostStacker().fit(*change(*data))  # type: ignore[operator]


def test_bad_parameters_and_another_cube_are_refused(data: Data) -> None:
    with pytest.raises(ValueError, match="features"):
        XGBoostStacker(features="some").fit(*data)
    stacker = XGBoostStacker(**SETTINGS).fit(*data)
    with pytest.raises(ValueError, match="cube has 3 models and 6 labels, the stacker was fitted with 4 and 6"):
        stacker.predict_proba(data[0][:, :3])


def test_made_from_params_with_the_same_defaults() -> None:
    assert make_stacker(XGBoostStackerSection()).get_params() == XGBoostStacker().get_params()
    made = make_stacker(XGBoostStackerSection(features="own", max_depth=9))
    assert isinstance(made, XGBoostStacker)
    assert (made.features, made.max_depth) == ("own", 9)
