"""Probabilities as a file keeps them, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelstack.support.logits import Dtype, as_kept, from_kept, to_kept, to_logits, to_probability

DTYPES: list[Dtype] = ["float32", "float16"]
MANY = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(0, 1, width=32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ends_and_what_is_unknown_come_back(dtype: Dtype) -> None:
    ends = np.array([0, 1, 0.5, np.nan], np.float32)
    np.testing.assert_array_equal(as_kept(ends, dtype), ends)
    np.testing.assert_array_equal(from_kept(to_kept(ends, dtype)), ends)
    np.testing.assert_array_equal(to_logits(ends), np.array([-np.inf, np.inf, 0, np.nan], np.float16))


@given(p=MANY)
def test_float32_comes_back_to_the_bit(p: np.ndarray) -> None:
    assert as_kept(p, "float32").tobytes() == from_kept(to_kept(p, "float32")).tobytes() == p.tobytes()


@given(p=MANY)
def test_float16_is_near(p: np.ndarray) -> None:
    found = as_kept(p, "float16")
    assert np.abs(found.astype(np.float64) - p).max() <= 1.03e-4
    small = (p > 1e-7) & (p < 1e-3)
    assert (np.abs(found[small].astype(np.float64) / p[small] - 1) <= 0.004).all()
    np.testing.assert_array_equal(found, from_kept(to_kept(p, "float16")))


def test_what_is_next_to_1_stays_below_it() -> None:
    near = (1 - np.float32(10) ** -np.arange(3, 7, dtype=np.float32)).astype(np.float32)
    assert (as_kept(near, "float16") < 1).all()
    assert (near.astype(np.float16) == 1).any()
    np.testing.assert_allclose(1 - as_kept(near, "float16").astype(np.float64), 1 - near.astype(np.float64), rtol=0.05)


@given(p=MANY)
def test_the_order_stays_and_a_second_time_changes_nothing(p: np.ndarray) -> None:
    found = as_kept(np.sort(p), "float16")
    assert (np.diff(found) >= 0).all()
    np.testing.assert_array_equal(as_kept(found, "float16"), found)


def test_the_logit_is_that_of_the_formula() -> None:
    p = np.array([0.1, 0.9, 1e-6], np.float32)
    expected = [np.log(float(x) / (1 - float(x))) for x in p]
    np.testing.assert_allclose(to_logits(p), expected, rtol=5e-4)
    np.testing.assert_allclose(to_probability(np.array([-3.0, 0, 3])), [0.04742587, 0.5, 0.95257413], rtol=1e-6)
