"""The XGBoost stacker against scikit-learn's MultiOutputRegressor."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xgboost
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.multioutput import MultiOutputRegressor

from labelstack import params_stacking as params
from labelstack.errors import UserError
from labelstack.stacking import XGBoostStacker, load_stacker, make_stacker

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


def test_threads_do_not_change_the_result() -> None:
    cube, Y = make_data(600, 5, 4)
    one, two, every = (XGBoostStacker(n_jobs=n, subsample=0.8, n_estimators=15).fit(cube, Y) for n in (1, 2, None))
    np.testing.assert_array_equal(one.predict_proba(cube), two.predict_proba(cube))
    assert one.digest() == two.digest() == every.digest()


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


@pytest.mark.parametrize("features", ["all", "own", "own+context"])
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
        (lambda cube, Y: (cube, Y * 2), "Y must hold only 0 and 1"),
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
    assert make_stacker(params.XGBoostStacker()).get_params() == XGBoostStacker().get_params()
    made = make_stacker(params.XGBoostStacker(features="own", max_depth=9))
    assert isinstance(made, XGBoostStacker)
    assert (made.features, made.max_depth) == ("own", 9)
