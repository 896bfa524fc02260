"""Out-of-fold and nested predictions, kept over kills."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelstack.stacking import FoldEnsemble, FoldPredictions, XGBoostStacker, assign_folds, load_stacker, out_of_fold
from labelstack.support.errors import UserError

from .conftest import Data, make_data


def make() -> XGBoostStacker:
    return XGBoostStacker(features="own", n_estimators=5, max_depth=2, n_jobs=1)


def test_each_row_is_predicted_by_the_stacker_that_did_not_see_it(data: Data) -> None:
    cube, Y = data
    test_cube, _ = make_data(20, 4, 6, seed=1)
    folds = assign_folds(Y, 3, 0)
    result = out_of_fold(make, cube, Y, folds, test_cube=test_cube)
    for fold in range(3):
        alone = make().fit(cube[folds != fold], Y[folds != fold])
        np.testing.assert_array_equal(result.oof[folds == fold], alone.predict_proba(cube[folds == fold]))
    assert result.test is not None
    np.testing.assert_array_equal(result.test, result.ensemble.predict_proba(test_cube))
    mean = np.mean([stacker.predict_proba(test_cube) for stacker in result.stackers], axis=0)
    np.testing.assert_allclose(result.test, mean, atol=1e-6)


def test_a_large_part_is_answered_block_by_block(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    folds = assign_folds(data[1], 2, 0)
    whole = out_of_fold(make, *data, folds).oof
    monkeypatch.setattr("labelstack.stacking.fold_predictions._BLOCK", 7 * data[0][0].size)
    np.testing.assert_array_equal(out_of_fold(make, *data, folds).oof, whole)


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
made = []

def make():
    made.append(1)  # one is asked what it is, then there is one for each fold
    if len(made) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return XGBoostStacker(features="own", n_estimators=5, max_depth=2, n_jobs=1)

out_of_fold(make, data["cube"], data["Y"], assign_folds(data["Y"], 3, 0), work=sys.argv[1] + "/work")
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


def test_nested_predictions_never_saw_the_fold(data: Data) -> None:
    cube, Y = data
    folds = assign_folds(Y, 4, 0)
    result = out_of_fold(make, cube, Y, folds, nested=True)
    assert result.nested is not None
    assert result.nested.shape == (4, *Y.shape)
    pair = make().fit(cube[(folds != 1) & (folds != 3)], Y[(folds != 1) & (folds != 3)])
    np.testing.assert_array_equal(result.nested[1][folds == 3], pair.predict_proba(cube[folds == 3]))
    np.testing.assert_array_equal(result.nested[3][folds == 1], pair.predict_proba(cube[folds == 1]))
    others = [make().fit(cube[(folds != 2) & (folds != j)], Y[(folds != 2) & (folds != j)]) for j in (0, 1, 3)]
    mean = np.mean([stacker.predict_proba(cube[folds == 2]) for stacker in others], axis=0)
    np.testing.assert_allclose(result.nested[2][folds == 2], mean, atol=1e-6)
    flipped = Y.copy()
    flipped[folds == 2] = 1 - flipped[folds == 2]
    again = out_of_fold(make, cube, flipped, folds, nested=True)
    assert again.nested is not None
    np.testing.assert_array_equal(again.nested[2], result.nested[2])  # not one answer of the fold has a say
    assert not np.array_equal(again.nested[0], result.nested[0])
    assert not np.array_equal(again.oof[folds != 2], result.oof[folds != 2])  # what nesting is for


def test_like_new_takes_each_row_from_the_models_without_its_fold(data: Data) -> None:
    cube, Y = data
    folds = assign_folds(Y, 3, 0)
    result = out_of_fold(make, cube, Y, folds, nested=True)
    assert result.nested is not None
    like_new = result.predictions.like_new(folds)
    for fold in range(3):
        np.testing.assert_array_equal(like_new[folds == fold], result.nested[fold][folds == fold])
    plain = FoldPredictions(result.oof)
    assert plain.like_new(folds) is result.oof
    assert plain.without(1) is result.oof


def test_two_folds_leave_nothing_to_nest(data: Data) -> None:
    result = out_of_fold(make, *data, assign_folds(data[1], 2, 0), nested=True)
    assert result.nested is None
    assert result.predictions.without(0) is result.oof


def test_jobs_can_run_anywhere_that_sees_the_work_folder(data: Data, tmp_path: Path) -> None:
    cube, Y = data
    folds = assign_folds(Y, 3, 0)
    here = out_of_fold(make, cube, Y, folds, test_cube=cube[:7], nested=True)
    ran: list[dict[str, Any]] = []

    def elsewhere(function: Any, jobs: Any, *, desc: str, reads: Any, writes: Any) -> Any:
        for job in reversed(json.loads(json.dumps(jobs))):  # plain values that travel, in any order, some twice
            ran.append(job)
            assert [Path(file).name for file in reads(job)] == ["inputs.npz"]
            assert all(Path(file).parent == tmp_path for file in writes(job))
            function(job)
            yield function(job)

    there = out_of_fold(make, cube, Y, folds, test_cube=cube[:7], nested=True, work=tmp_path, map_=elsewhere)
    assert len(ran) == 6
    np.testing.assert_array_equal(there.oof, here.oof)
    np.testing.assert_array_equal(there.nested, here.nested)
    np.testing.assert_array_equal(there.test, here.test)
    assert there.ensemble.digest() == here.ensemble.digest()
    out_of_fold(make, cube, Y, folds, test_cube=cube[:7], nested=True, work=tmp_path, map_=elsewhere)
    assert len(ran) == 6  # all kept


def test_a_warning_of_every_fold_is_said_once(data: Data, caplog: pytest.LogCaptureFixture) -> None:
    cube, Y = data
    silent = Y.copy()
    silent[:, 1] = 0
    with caplog.at_level(logging.WARNING):
        out_of_fold(make, cube, silent, assign_folds(Y, 3, 0), nested=True)
        assert caplog.text.count("constant here") == 1
        make().fit(cube, silent)
    assert caplog.text.count("constant here") == 2


def test_soft_labels_reach_the_stacker(data: Data) -> None:
    cube, Y = data
    folds = assign_folds(Y, 3, 0)
    soft = np.where(Y, 0.7, 0.1).astype(np.float32)
    hard, softened = (out_of_fold(make, cube, target, folds).oof for target in (Y, soft))
    assert softened.mean() < hard.mean() + 0.05
    assert softened.max() < hard.max()


def test_a_cube_in_a_file_and_nested_predictions_kept_by_blocks_change_nothing(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube, Y = data
    folds = assign_folds(Y, 4, 0)
    whole = out_of_fold(make, cube, Y, folds, test_cube=cube[:9], nested=True)
    assert whole.nested is not None
    for size in (3 * 4 * cube.shape[2], 10**9):  # three rows at a time, and all
        monkeypatch.setattr("labelstack.stacking.cells.BLOCK", size)
        monkeypatch.setattr("labelstack.stacking.cells.row_blocks.__defaults__", (size,))
        np.save(tmp_path / "cube.npy", cube.astype(np.float32))
        mapped = np.load(tmp_path / "cube.npy", mmap_mode="r")
        kept: list[np.ndarray] = []

        def keep(shape: tuple[int, int, int], blocks: Any, kept: list[np.ndarray] = kept) -> np.ndarray:
            kept += [block for _, block in blocks]
            assert shape == (len(cube), 4, cube.shape[2])
            return np.concatenate(kept).transpose(1, 0, 2)

        work = tmp_path / str(size)
        found = out_of_fold(make, mapped, Y, folds, test_cube=mapped[:9], nested=True, work=work, keep_nested=keep)
        assert len(kept) == (1 if size == 10**9 else -(-len(cube) // 3))
        for name in ("oof", "test", "nested"):
            np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
        assert not (work / "part.npy").exists()
