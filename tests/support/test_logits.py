"""Probabilities through logits and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelstack.support.logits import Dtype, as_kept, to_logits, to_probability

DTYPES: list[Dtype] = ["float32", "float16"]
MANY = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(0, 1, width=32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ends_and_what_is_unknown_come_back(dtype: Dtype) -> None:
    ends = np.array([0, 1, 0.5, np.nan], np.float32)
    np.testing.assert_array_equal(to_logits(ends, dtype), np.array([-np.inf, np.inf, 0, np.nan], dtype))
    np.testing.assert_array_equal(as_kept(ends, dtype), ends)


@given(p=MANY)
def test_float32_comes_back_to_the_bit_from_a_quarter_on_and_nearly_so_below(p: np.ndarray) -> None:
    found = as_kept(p, "float32")
    np.testing.assert_array_equal(found[p >= 0.25], p[p >= 0.25])
    assert np.abs(found.astype(np.float64) - p).max() <= 1.5e-8
    small = (p > 1e-37) & (p < 0.25)
    share = np.abs(found[small].astype(np.float64) / p[small] - 1)
    assert (share <= 6e-8 * (1 + np.abs(np.log(p[small])))).all()


@given(p=MANY)
def test_float16_is_near(p: np.ndarray) -> None:
    found = as_kept(p, "float16")
    assert np.abs(found.astype(np.float64) - p).max() <= 1.03e-4
    small = (p > 1e-7) & (p < 1e-3)
    assert (np.abs(found[small].astype(np.float64) / p[small] - 1) <= 0.004).all()


@pytest.mark.parametrize("dtype", DTYPES)
@given(p=MANY)
def test_the_order_stays_and_a_second_time_changes_nothing(dtype: Dtype, p: np.ndarray) -> None:
    found = as_kept(np.sort(p), dtype)
    assert (np.diff(found) >= 0).all()
    np.testing.assert_array_equal(as_kept(found, dtype), found)


def test_no_decision_at_a_threshold_from_a_quarter_on_changes() -> None:
    """Values next to each threshold, on either side."""
    limits = np.linspace(0.25, 1, 500, dtype=np.float32)
    near = np.stack([np.nextafter(limits, np.float32(0)), limits, np.nextafter(limits, np.float32(2))])
    near = np.clip(near, 0, 1)
    np.testing.assert_array_equal(as_kept(near, "float32") >= limits, near >= limits)


def test_the_logit_is_that_of_the_formula() -> None:
    p = np.array([0.1, 0.9, 1e-6], np.float32)
    expected = [np.log(float(x) / (1 - float(x))) for x in p]
    np.testing.assert_allclose(to_logits(p, "float32"), expected, rtol=1e-7)
    np.testing.assert_allclose(to_probability(np.array([-3.0, 0, 3])), [0.04742587, 0.5, 0.95257413], rtol=1e-6)
    assert as_kept(p, None) is p
