"""Fits that a process has just made are not made twice."""

from __future__ import annotations

import numpy as np
import pytest

from labelstack.stacking.stackers import linear
from labelstack.stacking.stackers.cnn_start import fit_start
from labelstack.stacking.stackers.linear import LogisticStacker
from labelstack.stacking.stackers.recent_fits import RecentFits

from .conftest import Data


def test_equal_params_and_data_are_fitted_once_and_what_is_got_may_be_changed() -> None:
    made: list[int] = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"weights": np.arange(3.0)}

    kept, data = RecentFits(2), np.zeros((2, 3), np.float32)
    kept.get({"a": 1}, [data], make)["weights"][:] = 7
    np.testing.assert_array_equal(kept.get({"a": 1}, [data.copy()], make)["weights"], np.arange(3.0))
    assert len(made) == 1
    for params, array in (({"a": 2}, data), ({"a": 1}, data + 1), ({"a": 1}, data.reshape(3, 2))):
        kept.get(params, [array], make)
    assert len(made) == 4
    kept.get({"a": 1}, [data], make)  # two others came since
    assert len(made) == 5


def test_the_start_of_a_network_is_the_stacker_that_was_just_fitted(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_RECENT", RecentFits())
    stacker = LogisticStacker().fit(*data)
    monkeypatch.setattr(LogisticStacker, "_fit", lambda *args: pytest.fail("is fitted again"))
    assert fit_start("logistic", *data, "").digest() == stacker.digest()
