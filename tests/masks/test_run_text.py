"""Runs as files have them, and every way in which they can be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labelstack.masks.run_lengths import decode, encode
from labelstack.masks.run_text import read_runs, write_runs

pictures = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)).flatmap(lambda s: arrays(bool, s))


@settings(deadline=None)
@given(pictures)
def test_what_is_written_is_read_again(masks: np.ndarray) -> None:
    runs = encode(masks)
    texts = write_runs(runs)
    read, faults, clipped = read_runs(texts, runs.height, runs.width)
    assert np.array_equal(decode(read), masks)
    assert [fault.mask for fault in faults] == np.flatnonzero(~masks.any(axis=(1, 2))).tolist()
    assert all(fault.found == "an empty cell" for fault in faults)
    assert not clipped.any()


def test_starts_count_from_1_and_go_down_the_columns() -> None:
    runs, faults, _ = read_runs(["1 2 6 1"], [3], [2])
    assert faults == []
    assert decode(runs)[0].tolist() == [[True, False], [True, False], [False, True]]
    assert write_runs(runs) == ["1 2 6 1"]


@pytest.mark.parametrize(
    ("text", "expected", "found"),
    [
        ("1 2 6", "pairs of a start and a length", "3 values, an odd number"),
        ("", "runs such as 1 3 10 5", "an empty cell"),
        ("   ", "runs such as 1 3 10 5", "an empty cell"),
        ("1 0", "lengths of at least 1", "the run 1 0"),
        ("0 2", "starts counted from 1", "the run 0 2"),
        ("2 5 3 1", "runs that do not overlap", "3 1 after 2 5"),
        ("4 1 2 1", "runs in ascending order", "2 1 after 4 1"),
        ("4 1 4 1", "runs in ascending order", "4 1 after 4 1"),
        ("1 1 12 2", "runs inside the photo", "the run 12 2, which ends at 13 of 3 · 4 = 12"),
        ("13 1", "runs inside the photo", "the run 13 1, which ends at 13 of 3 · 4 = 12"),
        ("1 2 six 1", "whole numbers with a space between them", '"six"'),
        ("1,2", "whole numbers with a space between them", '"1,2"'),
        ("-1 2", "whole numbers with a space between them", '"-1"'),
        ("1.5 2", "whole numbers with a space between them", '"1.5"'),
        ("١ 2", "whole numbers with a space between them", '"١"'),
        ("1 9999999999999999999999", "numbers of at most 12 digits", '"9999999999999999999…"'),
    ],
)
def test_a_fault_is_told_and_leaves_the_other_masks(text: str, expected: str, found: str) -> None:
    runs, faults, _ = read_runs(["1 2", text, "12 1"], [3] * 3, [4] * 3)
    (fault,) = faults
    assert fault.mask == 1
    assert fault.expected.startswith(expected)
    assert fault.found == found
    assert write_runs(runs) == ["1 2", "", "12 1"]


def test_a_fault_of_the_first_or_last_mask_reaches_no_other() -> None:
    # The end of one mask lies beyond the start of the next: not an overlap.
    runs, faults, _ = read_runs(["10 3", "1 2", "5 5 1 1"], [3] * 3, [4] * 3)
    assert [fault.mask for fault in faults] == [2]
    assert write_runs(runs) == ["10 3", "1 2", ""]


def test_spaces_and_leading_zeros_are_no_fault() -> None:
    runs, faults, _ = read_runs([" 1  2\t6 1\n", "001 002"], [3, 3], [2, 2])
    assert faults == []
    assert write_runs(runs) == ["1 2 6 1", "1 2"]


def test_clipping_cuts_what_leads_out_and_nothing_else() -> None:
    texts = ["1 1 11 5", "2 2 40 1", "1 3", "90 1", "4 1 2 90"]
    runs, faults, clipped = read_runs(texts, [3] * 5, [4] * 5, clip=True)
    assert write_runs(runs) == ["1 1 11 2", "2 2", "1 3", "", ""]
    assert clipped.tolist() == [True, True, False, False, False]
    assert [(fault.mask, fault.found) for fault in faults] == [(3, "none"), (4, "2 11 after 4 1")]


def test_no_texts() -> None:
    runs, faults, clipped = read_runs([], [], [])
    assert (len(runs), faults, len(clipped)) == (0, [], 0)
    assert write_runs(runs) == []


@settings(deadline=None)
@given(st.lists(st.text("0123456789 -.a\t", max_size=12), max_size=6))
def test_any_texts_are_read_alike_together_and_alone(texts: list[str]) -> None:
    sizes = [3] * len(texts)
    together, faults, _ = read_runs(texts, sizes, sizes)
    told = {fault.mask: fault for fault in faults}
    for place, text in enumerate(texts):
        alone, own, _ = read_runs([text], [3], [3])
        assert write_runs(together.take([place])) == write_runs(alone)
        assert [told[place][1:]] == [fault[1:] for fault in own] if place in told else own == []
