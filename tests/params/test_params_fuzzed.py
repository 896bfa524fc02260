"""Any text for params.yaml, and any value for any key: read, or refused in sentences.

``LABELSTACK_FUZZ=100000 pytest -n0 …`` tries so many of each.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelstack.params import load_params
from labelstack.support.errors import UserError
from tiny import REPOSITORY

CASES = int(os.environ.get("LABELSTACK_FUZZ", "60"))
WHOLE = (REPOSITORY / "params.yaml").read_text()
FAST = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
words = st.sampled_from([
    "seed", "models", "stackers", "kind", "backbone", "null", "true", "1e999", "-1", "0x7f", ".nan", "2001-01-01", "&a",
    "*a", "<<", "!!python/object:os.system", "? ", "- ", ": ", "{", "[", "]", "}", "|", ">", "%YAML 9", "\t", "\0", "é",
    "=1", "9" * 5000, "'", '"', "#", "\n", "  ", "images:", "train", "${x}",
])  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def refused_or_read(text: str | bytes) -> None:
    """Read params.yaml with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(UserError):
            load_params(path)


@FAST
@given(st.lists(words | st.text(max_size=8), max_size=25).map("".join) | st.binary(max_size=60))
def test_any_text(text: str | bytes) -> None:
    refused_or_read(text)


@FAST
@given(st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 12), words), min_size=1, max_size=4))
def test_the_default_with_words_put_in_and_left_out(changes: list[tuple[int, int, str]]) -> None:
    text = WHOLE
    for at, left_out, word in changes:
        text = text[:at] + word + text[at + left_out :]
    refused_or_read(text)


def _keys(content: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [found for key, value in items for found in [(*before, key), *_keys(value, (*before, key))]]


@FAST
@given(st.lists(st.tuples(st.sampled_from(_keys(yaml.safe_load(WHOLE))), values), min_size=1, max_size=3))
def test_any_value_of_any_key(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    content = yaml.safe_load(WHOLE)
    for keys, value in changes:
        inner = content
        try:
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = value
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    try:
        text = yaml.safe_dump(content, allow_unicode=False)
    except yaml.YAMLError:
        return
    refused_or_read(text)
