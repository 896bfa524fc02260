"""Stratified folds, and out-of-fold prediction that survives a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labelstack.errors import UserError
from labelstack.stacking import FoldEnsemble, XGBoostStacker, assign_folds, load_stacker, out_of_fold

from .conftest import Data, make_data


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(2, 40), st.integers(1, 8), st.integers(0, 5))
def test_folds_are_even_and_repeatable(data: st.DataObject, n: int, n_labels: int, seed: int) -> None:
    Y = data.draw(arrays(np.uint8, (n, n_labels), elements=st.integers(0, 1)))
    k = data.draw(st.integers(2, n))
    folds = assign_folds(Y, k, seed)
    sizes = np.bincount(folds, minlength=k)
    assert len(sizes) == k
    assert sizes.max() - sizes.min() <= 1
    assert np.array_equal(folds, assign_folds(Y, k, seed))


def test_every_label_is_spread_over_the_folds() -> None:
    rng = np.random.default_rng(0)
    frequency = np.concatenate([[0.004, 0.01, 0.02], rng.uniform(0.03, 0.5, 37)])
    Y = rng.random((2500, 40)) < frequency
    folds = assign_folds(Y, 5, 0)
    counts = np.stack([Y[folds == fold].sum(axis=0) for fold in range(5)])
    random = rng.permutation(folds)
    at_random = np.stack([Y[random == fold].sum(axis=0) for fold in range(5)])
    assert counts[:, 0].max() - counts[:, 0].min() <= 1  # the rarest label is dealt first
    assert counts.std(axis=0).mean() < at_random.std(axis=0).mean() / 2


def test_seed_matters_and_rare_label_reaches_as_many_folds_as_it_has_images() -> None:
    Y = np.zeros((30, 2), bool)
    Y[:3, 0] = True
    Y[::2, 1] = True
    folds = assign_folds(Y, 5, 0)
    assert len(set(folds[:3])) == 3
    assert not np.array_equal(folds, assign_folds(Y, 5, 1))


def test_real_size_takes_seconds() -> None:
    Y = np.random.default_rng(0).random((10_000, 228)) < 0.03
    started = time.perf_counter()
    folds = assign_folds(Y, 5, 0)
    assert time.perf_counter() - started < 5
    assert np.array_equal(np.bincount(folds), [2000] * 5)


def test_impossible_k_is_the_users_mistake() -> None:
    Y = np.eye(3, dtype=bool)
    for k in (4, 1):
        with pytest.raises(UserError, match=f"folds.k is {k}: 3 images"):
            assign_folds(Y, k, 0)


def make() -> XGBoostStacker:
    return XGBoostStacker(features="own", n_estimators=5, max_depth=2, n_jobs=1)


def test_each_row_is_predicted_by_the_stacker_that_did_not_see_it(data: Data) -> None:
    cube, Y = data
    test_cube, _ = make_data(20, 4, 6, seed=1)
    folds = assign_folds(Y, 3, 0)
    seen: list[int] = []
    result = out_of_fold(
        make, cube, Y, folds, test_cube=test_cube, on_fold=lambda fold, rows, p: seen.extend([fold, len(rows), len(p)])
    )
    for fold in range(3):
        alone = make().fit(cube[folds != fold], Y[folds != fold])
        np.testing.assert_array_equal(result.oof[folds == fold], alone.predict_proba(cube[folds == fold]))
    assert seen == [0, 40, 40, 1, 40, 40, 2, 40, 40]
    assert result.test is not None
    np.testing.assert_array_equal(result.test, result.ensemble.predict_proba(test_cube))
    mean = np.mean([stacker.predict_proba(test_cube) for stacker in result.stackers], axis=0)
    np.testing.assert_allclose(result.test, mean, atol=1e-6)


def test_without_a_test_cube_there_is_no_test_prediction(data: Data) -> None:
    result = out_of_fold(make, *data, assign_folds(data[1], 2, 0))
    assert result.test is None
    assert result.oof.dtype == np.float32


class Counting(XGBoostStacker):
    """Counts fits, and fails on the one named by ``fail_at``."""

    fits = 0
    fail_at = -1

    def fit(self, *args: Any, **options: Any) -> XGBoostStacker:
        if Counting.fits == Counting.fail_at:
            raise KeyboardInterrupt
        Counting.fits += 1
        return super().fit(*args, **options)


def test_finished_folds_are_kept(data: Data, tmp_path: Path) -> None:
    cube, Y = data
    folds = assign_folds(Y, 4, 0)

    def counting() -> Counting:
        return Counting(features="own", n_estimators=5, max_depth=2, n_jobs=1)

    Counting.fits, Counting.fail_at = 0, 2
    with pytest.raises(KeyboardInterrupt):
        out_of_fold(counting, cube, Y, folds, test_cube=cube[:9], work=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fold-0", "fold-1"]
    Counting.fits, Counting.fail_at = 0, -1
    resumed = out_of_fold(counting, cube, Y, folds, test_cube=cube[:9], work=tmp_path)
    assert Counting.fits == 2
    whole = out_of_fold(make, cube, Y, folds, test_cube=cube[:9])
    np.testing.assert_array_equal(resumed.oof, whole.oof)
    np.testing.assert_array_equal(resumed.test, whole.test)
    assert resumed.ensemble.digest() == whole.ensemble.digest()
    Counting.fits = 0
    other = Y.copy()
    other[5, 0] ^= 1
    out_of_fold(counting, cube, other, folds, test_cube=cube[:9], work=tmp_path)
    assert Counting.fits == 4  # other answers: nothing is taken over


KILLED = """
import os, signal, sys
import numpy as np
from labelstack.stacking import XGBoostStacker, assign_folds, out_of_fold
data = np.load(sys.argv[1] + "/data.npz")
out_of_fold(lambda: XGBoostStacker(features="own", n_estimators=5, max_depth=2, n_jobs=1), data["cube"], data["Y"],
            assign_folds(data["Y"], 3, 0), work=sys.argv[1] + "/work",
            on_fold=lambda fold, rows, p: os.kill(os.getpid(), signal.SIGKILL) if fold == 1 else None)
"""


def test_a_killed_process_resumes_to_the_same_result(data: Data, tmp_path: Path) -> None:
    cube, Y = data
    np.savez(tmp_path / "data.npz", cube=cube, Y=Y)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(p.name for p in (tmp_path / "work").iterdir()) == ["fold-0", "fold-1"]
    kept = (tmp_path / "work" / "fold-1" / "key.json").stat().st_mtime_ns
    resumed = out_of_fold(make, cube, Y, assign_folds(Y, 3, 0), work=tmp_path / "work")
    assert (tmp_path / "work" / "fold-1" / "key.json").stat().st_mtime_ns == kept
    whole = out_of_fold(make, cube, Y, assign_folds(Y, 3, 0))
    np.testing.assert_array_equal(resumed.oof, whole.oof)
    assert resumed.ensemble.digest() == whole.ensemble.digest()


def test_fold_ensemble_round_trip(data: Data, tmp_path: Path) -> None:
    cube, Y = data
    ensemble = out_of_fold(make, cube, Y, assign_folds(Y, 2, 0)).ensemble
    ensemble.save(tmp_path / "saved")
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == ["config.json", "fold-0", "fold-1"]
    loaded = load_stacker(tmp_path / "saved")
    assert isinstance(loaded, FoldEnsemble)
    np.testing.assert_array_equal(loaded.predict_proba(cube), ensemble.predict_proba(cube))
    assert loaded.digest() == ensemble.digest()
    assert FoldEnsemble(ensemble.stackers[::-1]).digest() != ensemble.digest()


def test_bad_ensembles_are_refused(data: Data, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stackers is empty"):
        FoldEnsemble([])
    (tmp_path / "config.json").write_text('{"kind": "folds"}')
    with pytest.raises(UserError, match="not a saved fold ensemble"):
        load_stacker(tmp_path)
    inner = FoldEnsemble([make().fit(*data)])
    FoldEnsemble([inner]).save(tmp_path / "nested")  # type: ignore[list-item]
    with pytest.raises(UserError, match="inside a fold ensemble"):
        load_stacker(tmp_path / "nested")


@pytest.mark.parametrize(
    ("folds", "message"),
    [([0, 1], "folds must be integers"), (np.zeros(120, int), "folds must use each"), ([0.5] * 120, "folds must be")],
)
def test_bad_folds_are_refused(data: Data, folds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        out_of_fold(make, *data, folds)


def test_test_cube_must_fit(data: Data) -> None:
    with pytest.raises(ValueError, match="cube has 3 models and 6 labels"):
        out_of_fold(make, *data, assign_folds(data[1], 2, 0), test_cube=data[0][:, :3])
