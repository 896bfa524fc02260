"""Data sets with any value and any byte in the wrong place: read, or refused in sentences.

``LABELSTACK_FUZZ=100000 pytest -n0 …`` tries so many of each.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.files import GOOD, write
from formats.tables import SPLITS, put, read
from labelstack.formats import imaterialist2018
from labelstack.support.errors import UserError

CASES = int(os.environ.get("LABELSTACK_FUZZ", "60"))
FAST = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(["1", "http://a"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["image_id", "url", "label_id", "x"]), inner)
    ),
    max_leaves=6,
)
bits = st.sampled_from([
    '"', ",", ";", "\n", "\r", "\t", "\0", "=", "[", "]", "{", "}", "::", "image", "labels", "train", "../",
    "/etc/passwd", "http://", "file:", "1e400", "NaN", "\ufeff", "\u200b", "🙂", "'", "\\", "1" * 30,
])  # fmt: skip
edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 10), bits), min_size=1, max_size=4)


def edited(text: str, changes: list[tuple[float, int, str]]) -> str:
    """The text with some signs left out and others put in."""
    for share, left_out, new in changes:
        at = int(share * len(text))
        text = text[:at] + new + text[at + left_out :]
    return text


def _places(content: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [found for key, value in items for found in [(*before, key), *_places(value, (*before, key))]]


def competition(content: dict[str, Any], labels: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(UserError):
        imaterialist2018.read(write(Path(folder), content, labels), None, 0)


@FAST
@given(st.lists(st.tuples(st.sampled_from(_places(GOOD)), values), min_size=1, max_size=3))
def test_any_value_in_json(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    content = copy.deepcopy(GOOD)
    for keys, value in changes:
        inner: Any = content
        try:
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = value
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    competition(content)


@FAST
@given(st.sampled_from(sorted(GOOD)), edits)
def test_edited_json(split: str, changes: list[tuple[float, int, str]]) -> None:
    competition({**GOOD, split: edited(json.dumps(GOOD[split]), changes)})


@FAST
@given(edits)
def test_edited_label_tables(changes: list[tuple[float, int, str]]) -> None:
    competition(GOOD, edited("label_id,name\n3,colour::red\n7,dress\n9,\n", changes))


@FAST
@given(edits, st.sampled_from(["multi_label", "single_label"]), st.booleans())
def test_edited_tables(changes: list[tuple[float, int, str]], task: str, with_split: bool) -> None:
    text = edited(SPLITS, changes).encode("utf-8", "surrogatepass")
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(UserError):
        read(put(Path(folder), text), task, split="split" if with_split else None)


@FAST
@given(st.binary(max_size=200), st.sampled_from(["labels.csv", "labels.parquet"]))
def test_any_bytes_as_a_table(data: bytes, file: str) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(UserError):
        read(put(Path(folder), (b"PAR1" if file.endswith("parquet") else b"") + data, file), file=file)
